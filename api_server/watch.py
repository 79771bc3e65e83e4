"""Waiting for jobs to end: one hub for everybody who waits at this api-server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from api_server.domain import JobRecord
from hasty.jobs import TERMINAL
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher, Overloaded
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

APPLIED: Final = "hasty.applied"
"""Where an api-server says to which jobs it has applied endings, on core NATS: a JSON list of ids."""

WAITING_MAX: Final = 10_000
LOOK_EVERY_S: Final = 1.0
LOOK_AGAIN_S: Final = 0.05
LOOK_AGAIN_FOR_S: Final = 1.0
"""A job that was said to have ended is looked at so often and for so long, until the database shows it."""

LOOK_BATCH_MAX: Final = 1_000
PUBLISH_BATCH_MAX: Final = 16
"""So many times what is applied at once, at most 512 jobs, fits well into a message."""

PUBLISH_INTERVAL_S: Final = 0.01


class Statuses(Protocol):
    """What knows which jobs have ended; see `api_server.store.statuses.StatusStore`."""

    async def ended(self, job_ids: Sequence[str]) -> set[str]: ...


class Watch:
    """Wakes who waits for a job as soon as it has ended.

    A waiter is a future, and nothing else: one loop looks for all of them. `find` reads a job; its errors are those of
    `Queries.record`.
    """

    def __init__(
        self,
        statuses: Statuses,
        find: Callable[[str, str], Awaitable[JobRecord | None]],
        *,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._statuses = statuses
        self._find = find
        self._waiting_max = waiting_max
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._count = 0
        # Jobs that are said to have ended, and until when that is looked for, in the loop's time.
        self._woken: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    async def until_ended(self, job_id: str, wait_s: float, caller: str = "") -> JobRecord | None:
        """Return a job when it has ended, or as it is after `wait_s` seconds; None when there is no such job.

        Raises:
            Overloaded: when too many wait.
            StoreUnavailable: when the database fails.
        """
        if wait_s <= 0 or self._closed:
            return await self._find(job_id, caller)
        if self._count >= self._waiting_max:
            raise Overloaded(f"{self._count} wait for jobs already")
        # From before the first look on, so that no ending comes in between.
        waiter = self._enter(job_id)
        try:
            record = await self._find(job_id, caller)
            if record is None or record.job.status in TERMINAL:
                return record
            await asyncio.wait([waiter], timeout=wait_s)
        finally:
            self._leave(job_id, waiter)
        return await self._find(job_id, caller)

    async def pause(self, job_id: str, wait_s: float) -> None:
        """Return after `wait_s` seconds, or as soon as a job has ended, or nobody may wait any longer."""
        if self._closed:
            return
        waiter = self._enter(job_id)
        try:
            await asyncio.wait([waiter], timeout=wait_s)
        finally:
            self._leave(job_id, waiter)

    @property
    def closed(self) -> bool:
        """Whether nobody may wait any longer: the process is stopping."""
        return self._closed

    def wake(self, job_ids: Iterable[str]) -> None:
        """Look at these jobs at once: endings were applied to them."""
        until = asyncio.get_running_loop().time() + LOOK_AGAIN_FOR_S
        for job_id in job_ids:
            if job_id in self._waiters:
                self._woken[job_id] = until
                self._wake.set()

    def close(self) -> None:
        """Let nobody wait any longer: everyone is answered with the job as it is."""
        self._closed = True
        for job_id in list(self._waiters):
            self._release(job_id)

    async def run(self) -> None:
        """Look for ever: once a second at every job that is waited for, and at once at those that may have ended."""
        loop = asyncio.get_running_loop()
        next_look = loop.time() + LOOK_EVERY_S
        while True:
            pause_s = LOOK_AGAIN_S if self._woken else max(next_look - loop.time(), 0)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            looked_for = list(self._woken)
            if loop.time() >= next_look:
                looked_for = list(self._waiters)
                next_look = loop.time() + LOOK_EVERY_S
            await self._look(looked_for)
            now = loop.time()
            self._woken = {
                job_id: until for job_id, until in self._woken.items() if until > now and job_id in self._waiters
            }

    async def _look(self, job_ids: Sequence[str]) -> None:
        for first in range(0, len(job_ids), LOOK_BATCH_MAX):
            try:
                ended = await self._statuses.ended(job_ids[first : first + LOOK_BATCH_MAX])
            except StoreUnavailable as error:
                log.debug("waiters_not_looked_for", count=len(job_ids), reason=str(error))
                return
            for job_id in ended:
                self._release(job_id)

    def _enter(self, job_id: str) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._count += 1
        return waiter

    def _leave(self, job_id: str, waiter: asyncio.Future[None]) -> None:
        self._count -= 1
        waiters = self._waiters.get(job_id)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]

    def _release(self, job_id: str) -> None:
        for waiter in self._waiters.get(job_id, ()):
            if not waiter.done():
                waiter.set_result(None)


def applied_ids(data: bytes) -> list[str]:
    """Read which jobs another api-server says it has applied endings to; never raises."""
    try:
        job_ids = json.loads(data)
    except ValueError:
        return []
    return [job_id for job_id in job_ids if isinstance(job_id, str)] if isinstance(job_ids, list) else []


class AppliedPublisher:
    """Publishes to other api-servers to which jobs endings were applied, many at a time."""

    def __init__(self, publish: Callable[[bytes], Awaitable[None]]) -> None:
        self._publish = publish
        self._ids: Batcher[Sequence[str], None] = Batcher(
            self._publish_many, name="applied", max_batch=PUBLISH_BATCH_MAX, min_interval_s=PUBLISH_INTERVAL_S
        )

    def post(self, job_ids: Sequence[str]) -> None:
        """Publish soon; what is too much is left out: waiters look once a second as well."""
        with contextlib.suppress(Overloaded):
            self._ids.post(job_ids)

    async def _publish_many(self, applied: Sequence[Sequence[str]]) -> list[None]:
        job_ids = [job_id for some in applied for job_id in some]
        await self._publish(json.dumps(job_ids, separators=(",", ":")).encode())
        return [None] * len(applied)
