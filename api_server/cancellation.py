"""Cancellation: what callers ask to be cancelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from api_server.domain import JobRecord
from hasty.jobs import TERMINAL
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher

CANCELLED_AT_ONCE: Final = 256
WAITING_MAX: Final = 10_000
TIMEOUT_S: Final = 2.5
"""As an admission's."""

CANCELS: Final = "hasty.cancel"
"""Where job-servers are told what is to be cancelled, on core NATS: a JSON list of ids."""


class Jobs(Protocol):
    """What is asked of jobs; see `api_server.store.jobs.JobStore`."""

    async def request_cancel(self, job_ids: Sequence[str], now: datetime) -> None: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Cancellation:
    """Cancels jobs in batches: one update for all that wait.

    The update makes a job due, so that its cancellation is published until the job has ended; `sweep_soon` has that
    begin at once. `publish` reaches the job-server that runs the job, if one does, without any store in between.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        now: Callable[[], datetime],
        sweep_soon: Callable[[], None],
        publish: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._now = now
        self._sweep_soon = sweep_soon
        self._publish = publish
        self._requests: Batcher[str, JobRecord | None] = Batcher(
            self._cancel_many,
            name="cancellations",
            max_batch=CANCELLED_AT_ONCE,
            max_waiting=WAITING_MAX,
            timeout_s=TIMEOUT_S,
            timeout_error=StoreUnavailable,
        )

    def cancel(self, job_id: str, caller: str = "") -> asyncio.Future[JobRecord | None]:
        """Ask for a job to be cancelled; the future gets it as it is then, or None when there is none with this id.

        Raises:
            StoreUnavailable: in the future: when the database fails; the job may or may not be cancelled then.
            Overloaded: when too many requests wait, most of them this caller's.
        """
        return self._requests.submit(job_id, caller)

    async def _cancel_many(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        asked = list(dict.fromkeys(job_ids))
        await self._jobs.request_cancel(asked, self._now())
        records = await self._jobs.records(asked)
        open_ids = [job_id for job_id, record in records.items() if record.job.status not in TERMINAL]
        if open_ids:
            self._sweep_soon()
            await self._publish(json.dumps(open_ids, separators=(",", ":")).encode())
        return [records.get(job_id) for job_id in job_ids]
