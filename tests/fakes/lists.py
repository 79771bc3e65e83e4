"""Fakes of what lists, batches and the overview read, as `tests/store` proves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from api_server.domain import Batch, Filters, JobRecord, Lived
from hasty.jobs import TERMINAL, Job, Status
from tests.fakes.databases import FakeJobStore


class FakeOverviewStore:
    """Counts the jobs of a fake store."""

    def __init__(self, jobs: FakeJobStore) -> None:
        self._jobs = jobs

    async def lived(self, first: datetime, last: datetime, limit: int) -> list[Lived]:
        """Return up to `limit` jobs created from `first` to `last`, the newest first."""
        ids = [job.job_id for job in _between(self._jobs, first, last)[:limit]]
        return [_lived(record) for record in (await self._jobs.records(ids)).values()]

    async def unfinished(self, limit: int) -> int:
        """Count the jobs that have not ended."""
        return min(sum(job.status not in TERMINAL for job in self._jobs.jobs.values()), limit)

    async def unfinished_of(self, kinds: Collection[str], root_kind: str, limit: int) -> Counter[str]:
        """Count the jobs of some kinds among `limit` that have not ended."""
        unfinished = [job for job in self._jobs.jobs.values() if job.status not in TERMINAL][:limit]
        counted = Counter(root_kind if job.task is None else job.task.kind for job in unfinished)
        return Counter({kind: count for kind, count in counted.items() if kind in kinds})


class FakeListingStore(FakeOverviewStore):
    """Finds the jobs of a fake store."""

    def __init__(self, jobs: FakeJobStore) -> None:
        super().__init__(jobs)
        self.batches: dict[str, Batch] = {}
        self.outcomes: dict[str, Counter[Status]] = {}

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]:
        """Return up to `limit` jobs created from `first` to `last`, the newest first."""
        return await self._listed(_between(self._jobs, first, last)[:limit])

    async def search(
        self, first: datetime, last: datetime, filters: Filters, root_kind: str, limit: int
    ) -> list[JobRecord]:
        """Return up to `limit` of the jobs that match, the newest first."""
        found = [job for job in _between(self._jobs, first, last) if filters.match(job, root_kind)]
        return await self._listed(found[:limit])

    async def of_place(self, place: str, before_run: int | None, limit: int) -> list[JobRecord]:
        """Return up to `limit` jobs that had a place, the newest first."""
        found = [job for job in self._jobs.jobs.values() if job.object_id == place]
        earlier = [job for job in found if before_run is None or job.run < before_run]
        return await self._listed(sorted(earlier, key=lambda job: job.run, reverse=True)[:limit])

    async def members(self, batch: str) -> Sequence[str]:
        """Return the jobs of a batch."""
        return self.batches[batch].job_ids if batch in self.batches else ()

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of jobs."""
        return await self._jobs.records(job_ids)

    async def keep(self, batch: Batch, now: datetime) -> None:  # noqa: ARG002 - only retention asks for the time
        """Store a batch."""
        self.batches[batch.batch_id] = batch

    async def get(self, batch_id: str) -> Batch | None:
        """Return a batch."""
        return self.batches.get(batch_id)

    async def outcome(self, batch_id: str) -> Counter[Status] | None:
        """Return what was kept, if it counts all jobs."""
        kept = self.outcomes.get(batch_id)
        return kept if kept is not None and kept.total() == len(self.batches[batch_id].job_ids) else None

    async def keep_outcome(self, batch_id: str, counted: Mapping[Status, int]) -> None:
        """Keep what all jobs of a batch have come to."""
        self.outcomes[batch_id] = Counter(counted)

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, Status]:
        """Return the statuses of jobs."""
        return {job_id: self._jobs.jobs[job_id].status for job_id in job_ids if job_id in self._jobs.jobs}

    async def counts(self, job_ids: Sequence[str]) -> Counter[Status]:
        """Return how many of these jobs have each status."""
        return Counter((await self.statuses(job_ids)).values())

    async def _listed(self, jobs: Sequence[Job]) -> list[JobRecord]:
        return list((await self.records([job.job_id for job in jobs])).values())


def _lived(record: JobRecord) -> Lived:
    started_at = record.report.started_at if record.report and record.report.run else None
    return Lived(record.job.created_at, record.job.status, started_at, record.ended_at)


def _between(jobs: FakeJobStore, first: datetime, last: datetime) -> list[Job]:
    found = [job for job in jobs.jobs.values() if first <= job.created_at <= last]
    return sorted(found, key=lambda job: job.created_at, reverse=True)
