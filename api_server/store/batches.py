"""Batches, and the jobs that they made."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from api_server.domain import Batch, JobRecord
from api_server.store.jobs import JobStore
from api_server.store.listing import aggregated
from hasty.jobs import Status
from hasty.server.mongo import Document, Mongo

LOOKED_UP_AT_ONCE: Final = 200
"""SecantusDB compares each job that it finds with the whole list of ids: 1,000 at once cost it 18 ms, five times 200
cost 7 ms."""


class BatchStore:
    """The batches. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo, jobs: JobStore) -> None:
        self._mongo = mongo
        self._jobs = jobs

    async def keep(self, batch: Batch, now: datetime) -> None:
        """Store a batch, durable when this returns; a repetition of its request stores it again."""
        changes = {"job_ids": list(batch.job_ids), "jobs": len(batch.job_ids), "at": now}
        await self._mongo.update("batches", {"q": {"_id": batch.batch_id}, "u": {"$set": changes}, "upsert": True})

    async def get(self, batch_id: str) -> Batch | None:
        """Return a batch, or None when there is none with this id."""
        found = await self._mongo.find("batches", {"_id": batch_id})
        return Batch(batch_id, found[0]["job_ids"]) if found else None

    async def outcome(self, batch_id: str) -> Counter[Status] | None:
        """Return what all jobs of a batch have come to, if that was kept, and the batch has got no more jobs since."""
        found = await self._mongo.find("batches", {"_id": batch_id}, {"jobs": 1, "outcome": 1})
        if not found or "outcome" not in found[0]:
            return None
        counted = Counter({Status(status): jobs for status, jobs in found[0]["outcome"].items()})
        return counted if counted.total() == found[0].get("jobs") else None

    async def keep_outcome(self, batch_id: str, counted: Mapping[Status, int]) -> None:
        """Keep what all jobs of a batch have come to."""
        outcome = {status.value: jobs for status, jobs in counted.items()}
        await self._mongo.update("batches", {"q": {"_id": batch_id}, "u": {"$set": {"outcome": outcome}}})

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, Status]:
        """Return the statuses of jobs in their order; unknown ones are left out."""
        rows = await self._by_status(job_ids, {"job_ids": {"$push": "$_id"}})
        found = {job_id: status for status, row in rows for job_id in row["job_ids"]}
        return {job_id: found[job_id] for job_id in job_ids if job_id in found}

    async def counts(self, job_ids: Sequence[str]) -> Counter[Status]:
        """Return how many of these jobs have each status."""
        counted: Counter[Status] = Counter()
        for status, row in await self._by_status(job_ids, {"jobs": {"$sum": 1}}):
            counted[status] += row["jobs"]
        return counted

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of jobs, in their order; see `JobStore.records`."""
        found = await self._jobs.records(job_ids)
        return {job_id: found[job_id] for job_id in job_ids if job_id in found}

    async def _by_status(self, job_ids: Sequence[str], gathered: Document) -> list[tuple[Status, Document]]:
        """Group jobs by their status, some at a time: a status comes several times."""
        parts = [job_ids[start : start + LOOKED_UP_AT_ONCE] for start in range(0, len(job_ids), LOOKED_UP_AT_ONCE)]
        pipelines: list[list[Document]] = [
            [{"$match": {"_id": {"$in": list(part)}}}, {"$group": {"_id": "$status", **gathered}}] for part in parts
        ]
        answers = await asyncio.gather(*(aggregated(self._mongo, pipeline, len(Status)) for pipeline in pipelines))
        return [(Status(row["_id"]), row) for rows in answers for row in rows]
