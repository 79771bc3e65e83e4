"""Admission: which requests become jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Admit, Run, TooSoon, admit
from api_server.errors import DiskFull, TooSoonError
from api_server.metrics import ACCEPTED, REFUSED
from hasty.ids import new_job_id
from hasty.jobs import Job
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher

ADMIT_BATCH_MAX: Final = 128
WAITING_MAX: Final = 10_000
TIMEOUT_S: Final = 2.5
"""Seconds until a caller is asked to retry later, plus an eighth: within 3 seconds, whatever hangs."""


class Runs(Protocol):
    """What is stored of objects' runs; see `api_server.store.runs.RunStore`."""

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]: ...


class Stores(Protocol):
    """What stores new jobs; see `api_server.outbox.Outbox`."""

    @property
    def dispatches_of_new(self) -> int: ...
    async def store(self, jobs: Sequence[Job]) -> set[str]: ...


class Admission:
    """Decides on requests in batches: one look-up and one insert for all that wait.

    `now` gives the database's time; it raises `StoreUnavailable` while that is unknown. `shortage` says which disk has
    too little space for new jobs, if one has.
    """

    def __init__(
        self,
        runs: Runs,
        outbox: Stores,
        *,
        now: Callable[[], datetime],
        cooldown: timedelta,
        new_id: Callable[[str], str] = new_job_id,
        shortage: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._runs = runs
        self._outbox = outbox
        self._now = now
        self._cooldown = cooldown
        self._new_id = new_id
        self._shortage = shortage
        self._requests: Batcher[str, str] = Batcher(
            self._admit,
            name="admissions",
            max_batch=ADMIT_BATCH_MAX,
            max_waiting=WAITING_MAX,
            timeout_s=TIMEOUT_S,
            timeout_error=StoreUnavailable,
        )

    def submit(self, object_id: str, caller: str = "") -> asyncio.Future[str]:
        """Make a job for an object; the future gets its id, when it is on disk. Callers wait in rotation.

        Raises:
            TooSoonError: in the future: within the cooldown of the object's latest job.
            StoreUnavailable: in the future: when the database fails; the job may or may not exist then.
            Overloaded: when too many requests wait, most of them this caller's.
            DiskFull: when a disk has too little space for new jobs.
        """
        if shortage := self._shortage():
            raise DiskFull(shortage)
        return self._requests.submit(object_id, caller)

    async def _admit(self, object_ids: Sequence[str]) -> list[str | Exception]:
        """Decide on requests in their order, and again on those that lost a race."""
        decided: dict[int, str | TooSoon] = {}
        while len(decided) < len(object_ids):
            undecided = [(n, object_id) for n, object_id in enumerate(object_ids) if n not in decided]
            now = self._now()
            latest = await self._runs.latest_runs(list({object_id for _, object_id in undecided}))
            dispatches = self._outbox.dispatches_of_new
            jobs: dict[int, Job] = {}
            refused: dict[int, TooSoon] = {}
            for n, object_id in undecided:
                match admit(latest.get(object_id), now, self._cooldown):
                    case Admit(number):
                        job = jobs[n] = Job(self._new_id(object_id), object_id, number, now, dispatches=dispatches)
                        latest[object_id] = Run(object_id, number, job.job_id, now)
                    case TooSoon() as too_soon:
                        refused[n] = too_soon
            lost = await self._outbox.store(list(jobs.values())) if jobs else set()
            stored = {n: job.job_id for n, job in jobs.items() if job.job_id not in lost}
            decided |= stored
            # A refusal may have named a job of this very batch that lost its run number: then it is decided again.
            decided |= {n: too_soon for n, too_soon in refused.items() if too_soon.job_id not in lost}
            ACCEPTED.inc(len(stored))
        return [_result(decided[n]) for n in range(len(object_ids))]


def _result(decision: str | TooSoon) -> str | Exception:
    if isinstance(decision, str):
        return decision
    REFUSED.inc()
    return TooSoonError(decision)
