"""The blocking client."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, overload

from hasty.client.calls import V1, Options, filters, id_of, timeline_path
from hasty.client.errors import Refused
from hasty.client.exchange import RETRY_FOR_S, OnRetry, RetryPolicy, ignore_retries
from hasty.client.inputs import ContextLast, input_of, kind_of
from hasty.client.model import DeadLetter, Event, Job, Kind, NewJob, Overview, Status, Worker
from hasty.client.shell import Connection
from hasty.client.urls import server_url
from hasty.context import Context
from hasty.declare import Command

P = ParamSpec("P")


class Hasty:  # long: a method for each request
    """A client that blocks; many threads can use it. ``with Hasty() as hasty:`` closes it.

    Every request is retried, with growing pauses, as long as nobody answers or the answer is to come back later:
    one that makes jobs has an idempotency key, so that it never makes them twice. All methods raise `HastyError`; see
    `hasty.client.errors`.

    Args:
        url: the server's; by default ``HASTY_URL`` of the environment, or ``http://localhost:8080``.
        headers: sent with every request, as for a proxy that wants a login.
        retry_for_s: so many seconds after the first failure in a row, a call gives up.
        on_retry: called with why a request is sent again, and after how many seconds.

    Raises:
        ValueError: when the URL is none.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        retry_for_s: float = RETRY_FOR_S,
        on_retry: OnRetry = ignore_retries,
    ) -> None:
        self.url = server_url(url)
        self._connection = self._connect(self.url, headers)
        self._v1 = V1(RetryPolicy(self.url, retry_for_s, on_retry))

    def _connect(self, url: str, headers: Mapping[str, str] | None) -> Connection:
        """Return what requests are sent with."""
        from hasty.client.http import HttpxConnection  # noqa: PLC0415 - it loads httpx2, see `light`

        return HttpxConnection(url, headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, also those of what `with_options` returned."""
        self._connection.close()

    def with_options(
        self,
        *,
        delay_s: float = 0,
        attempts: int | None = None,
        labels: Iterable[str] = (),
        idempotency_key: str | None = None,
    ) -> Self:
        """Return the same client, for jobs that are made in a certain way.

        These are no arguments of `submit`: the names there belong to the handler.

        Args:
            delay_s: the jobs start so many seconds from now.
            attempts: how many attempts they get, instead of their kind's own number.
            labels: up to 8 texts to find them by.
            idempotency_key: the request's own name: the same request under the same name makes no second job,
                for as long as the first one is kept. Without it, every call has a name of its own.

        Raises:
            ValueError: when the idempotency key cannot be one.
        """
        made = copy.copy(self)
        options = Options(delay_s, attempts, tuple(labels), idempotency_key)
        made._v1 = V1(self._v1.retry_policy, options)  # noqa: SLF001 - it is one of us
        return made

    @overload
    def submit(self, kind: ContextLast, /, *args: Any, **values: Any) -> Job: ...
    @overload
    def submit(self, kind: str | Command, /, **values: Any) -> Job: ...
    @overload
    def submit(self, kind: Callable[Concatenate[Context, P], Any], /, *args: P.args, **values: P.kwargs) -> Job: ...
    @overload
    def submit(self, kind: Callable[P, Any], /, *args: P.args, **values: P.kwargs) -> Job: ...
    def submit(self, kind: str | Command | Callable[..., Any], /, *args: Any, **values: Any) -> Job:
        """Make a job, and return it when it is stored; it reaches exactly one outcome.

        Args:
            kind: the name of a kind, or its handler: then the values are checked by type checkers as those of a call.
            args: values by position, for a handler.
            values: the input, by name.
        """
        return self._connection.run(self._v1.submit(kind_of(kind), input_of(kind, args, values)))

    def submit_many(self, jobs: Iterable[NewJob]) -> list[Job | Refused]:
        """Make many jobs, in requests of up to 1,000 jobs and 1 MiB.

        Returns:
            for each, in their order, the job or why there is none: a bad one stops no other.
        """
        return self._connection.run(self._v1.submit_many(jobs))

    def get(self, job: str | Job, /) -> Job:
        """Return a job as it is now."""
        return self._connection.run(self._v1.get(id_of(job)))

    def wait(self, job: str | Job, /, timeout_s: float | None = None) -> Job:
        """Return a job when it has ended, however it did; `Job.result` gives its output.

        It survives restarts of everything behind it.

        Raises:
            WaitTimeout: when it has not ended after `timeout_s` seconds. It goes on.
        """
        return self._connection.run(self._v1.wait(id_of(job), timeout_s))

    def events(self, job: str | Job, /) -> Iterator[Job]:
        """Give a job as it is now, and again at each change, to its outcome, which is the last.

        It survives restarts of everything behind it; what changed meanwhile is then seen in one step.
        """
        return self._connection.each(self._v1.events(id_of(job)))

    def jobs(
        self,
        *,
        kind: str | None = None,
        status: Status | None = None,
        key: str | None = None,
        label: str | None = None,
        batch: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        on_searched: Callable[[datetime], None] | None = None,
    ) -> Iterator[Job]:
        """Give the jobs that match, newest first, up to `limit`; pages are read as they are needed.

        Where few of many jobs match, a request looks at some of them only: `on_searched` is then called with the time
        back to which everything has been looked at.
        """
        wanted = filters(kind=kind, status=status, key=key, label=label, batch=batch, since=since)
        return self._connection.each(self._v1.jobs(wanted, limit, on_searched))

    def cancel(self, job: str | Job, /) -> Job:
        """Cancel a job: it never starts, or is asked to stop; one that has ended stays as it is."""
        return self._connection.run(self._v1.cancel(id_of(job)))

    def retry(self, job: str | Job, /) -> Job:
        """Make a new job with the input, attempts and labels of one that has ended."""
        return self._connection.run(self._v1.retry(id_of(job)))

    def timeline(self, job: str | Job, /) -> list[Event]:
        """Return what has happened to a job, in order."""
        return self._connection.run(self._v1.list_of(Event, timeline_path(id_of(job))))

    def kinds(self) -> list[Kind]:
        """Return the kinds of jobs, and who serves them."""
        return self._connection.run(self._v1.list_of(Kind, "/v1/kinds"))

    def workers(self) -> list[Worker]:
        """Return the job-servers that were heard of in the last minute."""
        return self._connection.run(self._v1.list_of(Worker, "/v1/workers"))

    def overview(self) -> Overview:
        """Return how things are: counts, latencies and a verdict."""
        return self._connection.run(self._v1.one_of(Overview, "/v1/overview"))

    def dead_letters(self) -> list[DeadLetter]:
        """Return the latest messages that the api-servers could not process, newest first."""
        return self._connection.run(self._v1.list_of(DeadLetter, "/v1/dead-letters"))
