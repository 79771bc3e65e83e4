"""Requests that are retried: through restarts, full queues and broken connections."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from hasty.client.effects import Answer, Call, NoAnswer, Pause, Reply, Request, Send
from hasty.client.errors import REQUEST_ID, UnexpectedAnswer, Unreachable, error_of, retry_after_s

RETRY_FOR_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.1
MOST_PAUSE_S: Final = 2.0

RETRIED_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
"""Nothing was done, or nobody knows: every request can be repeated, those that make jobs by their idempotency key."""

_SUCCESS: Final = range(200, 300)

OnRetry = Callable[[str, float], None]


def ignore_retries(_reason: str, _pause_s: float) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is sent again.

    Args:
        url: the server's, for errors.
        retry_for_s: so many seconds after the first failure in a row, it is given up.
        on_retry: called with why a request is sent again, and after how many seconds.
        clock: a monotonic clock, in seconds.
        chance: numbers from 0 to 1, so that many callers do not come back all at once.
    """

    url: str
    retry_for_s: float = RETRY_FOR_S
    on_retry: OnRetry = ignore_retries
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)


class Outage:
    """Failures in a row: how long to pause after each, and when to give up."""

    def __init__(self, policy: RetryPolicy, until: float | None = None) -> None:
        self._policy = policy
        self._until = until
        self._began: float | None = None
        self._count = 0

    def over(self) -> None:
        """Something succeeded."""
        self._began, self._count = None, 0

    def pause_after(self, failure: Answer | NoAnswer) -> float:
        """Return how many seconds to wait before it is tried again.

        Raises:
            HastyError: when it is to be given up.
        """
        now = self._policy.clock()
        if self._began is None:
            self._began = now
        ends = self._began + self._policy.retry_for_s
        left_s = (ends if self._until is None else min(ends, self._until)) - now
        if left_s <= 0:
            raise self._given_up(failure)
        pause_s: float = min(FIRST_PAUSE_S * 2**self._count, MOST_PAUSE_S) * (0.5 + self._policy.chance() / 2)
        self._count = min(self._count + 1, 10)
        if isinstance(failure, Answer):
            pause_s = max(pause_s, retry_after_s(failure.headers) or 0)
        pause_s = min(pause_s, left_s)
        reason = failure.reason if isinstance(failure, NoAnswer) else str(error_of(failure))
        self._policy.on_retry(reason, pause_s)
        return pause_s

    def _given_up(self, failure: Answer | NoAnswer) -> Exception:
        if isinstance(failure, Answer):
            return error_of(failure)
        return Unreachable(f"{self._policy.url} cannot be reached ({failure.reason}): is Hasty running there?")


def exchange(policy: RetryPolicy, request: Request, until: float | None = None) -> Call[Answer]:
    """Send a request, again and again if need be, and return its successful answer.

    Args:
        policy: how long it is sent again.
        request: what is sent.
        until: the time by the clock at which it is given up, whatever the policy says.

    Raises:
        HastyError: when the answer is no, or there is none.
    """
    outage = Outage(policy, until)
    while True:
        reply = failed(reply_of((yield Send(request))))
        if reply.failure is None:
            return reply.answer
        yield Pause(outage.pause_after(reply.failure))


@dataclass(frozen=True, slots=True)
class Judged:
    """A reply: an answer that is good, or a failure after which it may be retried."""

    answer: Answer
    failure: Answer | NoAnswer | None


def failed(reply: Answer | NoAnswer) -> Judged:
    """Judge a reply.

    Raises:
        HastyError: when the answer is no, and will be no again.
    """
    if isinstance(reply, NoAnswer):
        return Judged(Answer(0, {}), reply)
    if reply.status in RETRIED_STATUSES:
        return Judged(reply, reply)
    if reply.status not in _SUCCESS:
        raise error_of(reply)
    return Judged(reply, None)


def reply_of(reply: Reply) -> Answer | NoAnswer:
    """Return what came of `Send` or `Open`."""
    if isinstance(reply, Answer | NoAnswer):
        return reply
    raise TypeError(f"a request came to {reply!r}")


def document_of(answer: Answer) -> Any:
    """Return the JSON of an answer.

    Raises:
        UnexpectedAnswer: when it is none.
    """
    try:
        return json.loads(answer.body)
    except ValueError:
        what = "the answer is no JSON, so it is none of Hasty's: is the URL right?"
        raise UnexpectedAnswer(what, answer.headers) from None


@contextmanager
def reading(answer: Answer) -> Iterator[None]:
    """Read an answer: an error that says it is none of Hasty's gets the request's id."""
    try:
        yield
    except UnexpectedAnswer as error:
        error.request_id = answer.headers.get(REQUEST_ID)
        raise
