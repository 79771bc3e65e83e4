"""Queries: what callers read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from api_server.domain import JobRecord
from hasty.jobs import Job
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher

READ_BATCH_MAX: Final = 256
WAITING_MAX: Final = 10_000
TIMEOUT_S: Final = 2.5
"""As an admission's."""


class Jobs(Protocol):
    """What is read of jobs; see `api_server.store.jobs.JobStore`."""

    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Queries:
    """Reads jobs in batches: one query for all that wait."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._reads: Batcher[str, Job | None] = Batcher(
            self._load_many,
            name="reads",
            max_batch=READ_BATCH_MAX,
            max_waiting=WAITING_MAX,
            timeout_s=TIMEOUT_S,
            timeout_error=StoreUnavailable,
        )
        self._record_reads: Batcher[str, JobRecord | None] = Batcher(
            self._load_records,
            name="record reads",
            max_batch=READ_BATCH_MAX,
            max_waiting=WAITING_MAX,
            timeout_s=TIMEOUT_S,
            timeout_error=StoreUnavailable,
        )

    def find(self, job_id: str, caller: str = "") -> asyncio.Future[Job | None]:
        """Look a job up; the future gets it, or None when there is none with this id. Callers wait in rotation.

        Raises:
            StoreUnavailable: in the future: when the database fails.
            Overloaded: when too many requests wait, most of them this caller's.
        """
        return self._reads.submit(job_id, caller)

    def record(self, job_id: str, caller: str = "") -> asyncio.Future[JobRecord | None]:
        """Look up everything that is known of a job; in all else as `find`."""
        return self._record_reads.submit(job_id, caller)

    async def _load_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        jobs = await self._jobs.get(list(set(job_ids)))
        return [jobs.get(job_id) for job_id in job_ids]

    async def _load_records(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        records = await self._jobs.records(list(set(job_ids)))
        return [records.get(job_id) for job_id in job_ids]
