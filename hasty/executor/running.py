"""A run in the child, and what the ways of running have in common."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from hasty.context import Context
from hasty.executor import forks, outcomes
from hasty.executor.channel import Channel
from hasty.executor.outcomes import Outcome
from hasty.executor.output import OutputLimit
from hasty.handlers import Handler
from hasty.jobs import Reason

LISTEN_WITHIN_S: Final = 10.0
"""How long a run may take to stop after it was asked to."""

PROGRESS_EVERY_S: Final = 0.1
"""Progress is passed on this often at most; what was reported in between is left out."""

CURRENT: Final[ContextVar[str | None]] = ContextVar("hasty_turn", default=None)
"""The turn that the present task or thread runs."""


@dataclass(slots=True, eq=False)
class Running:
    """A run: `reason` says why it is to stop, if it is; `stop` makes it."""

    turn_id: str
    handler: Handler
    spec: dict[str, Any]
    started_at: float = field(default_factory=time.time)
    begun: bool = False
    reason: str | None = None
    stop: Callable[[], None] = lambda: None
    timer: asyncio.TimerHandle | None = None

    @property
    def input(self) -> str:
        """The input, a JSON text."""
        return str(self.spec["input"])

    @property
    def timeout_s(self) -> float:
        """How long it may take, in seconds."""
        return float(self.spec["timeout_s"])


class Runs:
    """All runs of this child: starts their timers, collects their progress, reports their outcomes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._runs: dict[str, Running] = {}
        self._progress: dict[str, tuple[float, str]] = {}
        self._limit = OutputLimit()
        self.on_idle: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    def add(self, one: Running) -> None:
        """Note a run."""
        self._runs[one.turn_id] = one

    def begin(self, one: Running) -> None:
        """Note that a run begins now: its time counts."""
        if one.turn_id not in self._runs:
            return
        one.begun = True
        one.started_at = time.time()
        one.timer = self._loop.call_later(one.timeout_s, self._request_stop, one, "timeout")
        if one.reason is not None:
            one.stop()

    def cancel(self, turn_id: str) -> None:
        """Tell a run to stop, because its job is to be cancelled."""
        one = self._runs.get(turn_id)
        if one is not None and one.reason is None:
            self._request_stop(one, "cancelled")

    def end(self, one: Running, outcome: Outcome | None) -> None:
        """Report what came of a run; None when the process that ran it has died."""
        forks.end_if_forked()
        if self._runs.pop(one.turn_id, None) is None:
            return
        if one.timer is not None:
            one.timer.cancel()
        self._progress.pop(one.turn_id, None)
        if one.reason == "timeout":
            outcome = outcomes.timed_out(one.timeout_s)
        elif one.reason == "cancelled" and (
            outcome is None or (outcome["status"] == "failed" and _is_of_stop(outcome))
        ):
            outcome = outcomes.cancelled()
        if outcome is None:
            self._channel.send("lost", one.turn_id)
        else:
            self._channel.send("ended", one.turn_id, outcomes.timed(outcome, one.started_at))
        if not self._runs:
            self.on_idle()

    def end_from_thread(self, one: Running, outcome: Outcome) -> None:
        """Report what came of a run, from any thread."""
        forks.end_if_forked()
        self._loop.call_soon_threadsafe(self.end, one, outcome)

    def context(self, one: Running) -> Context:
        """Return what a handler may know of its run."""
        spec = one.spec

        def report(done: float, note: str) -> None:
            self.report(one.turn_id, done, note)

        return Context(
            job_id=spec["job_id"],
            kind=spec["kind"],
            attempt=spec["attempt"],
            run=spec["run"],
            deadline=datetime.fromtimestamp(one.started_at + one.timeout_s, UTC),
            labels=tuple(spec["labels"]),
            report=report,
            is_stopping=lambda: one.reason is not None,
        )

    def report(self, turn_id: str, done: float, note: str) -> None:
        """Pass progress on, from any thread."""
        if threading.get_ident() == self._thread:
            self._note(turn_id, done, note)
        else:
            self._loop.call_soon_threadsafe(self._note, turn_id, done, note)

    def log(self, stream: str, line: str, turn_id: str | None = None) -> None:
        """Pass a line of output on, unless it is too much; from any thread.

        It is bound to the turn that wrote it: the one whose code runs now, if `turn_id` does not name another.
        """
        if not self._limit.admit(line):
            return
        turn_id = turn_id or CURRENT.get()
        if threading.get_ident() == self._thread:
            self._channel.send("log", turn_id, stream, line)
        else:
            self._channel.send_from_thread("log", turn_id, stream, line)

    def send_dropped(self) -> None:
        """Tell how many lines were left out, if any were."""
        if dropped := self._limit.take_dropped():
            self._channel.send("dropped", dropped)

    def _note(self, turn_id: str, done: float, note: str) -> None:
        if not self._progress:
            self._loop.call_later(PROGRESS_EVERY_S, self._send_progress)
        self._progress[turn_id] = (done, note)

    def _send_progress(self) -> None:
        progress, self._progress = self._progress, {}
        for turn_id, (done, note) in progress.items():
            self._channel.send("progress", turn_id, done, note)

    def _request_stop(self, one: Running, reason: str) -> None:
        if one.reason is None:
            one.reason = reason
            if not one.begun:
                # It waits for its place.
                self.end(one, outcomes.cancelled())
                return
            one.stop()
            if one.timer is not None:
                one.timer.cancel()
            one.timer = self._loop.call_later(LISTEN_WITHIN_S, self._note_stuck, one)

    def _note_stuck(self, one: Running) -> None:
        if one.turn_id in self._runs:
            self._channel.send("stuck", one.turn_id)


def _is_of_stop(outcome: Outcome) -> bool:
    """Whether a failure is only how the run stopped, as when a cancelled task was made into an error."""
    failure = outcome.get("failure")
    return (
        failure is not None
        and failure["reason"] == Reason.EXCEPTION.value
        and failure["type"] in {"CancelledError", "Cancelled"}
    )
