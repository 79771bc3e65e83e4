"""What lists of jobs are made from: see `api_server.listing`.

Documents are read whole: SecantusDB needs 4 µs for one as it stands, and 20 µs for one that it has to cut down.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from api_server.domain import Filters, JobRecord
from api_server.store.documents import record_of
from api_server.store.jobs import JobStore
from api_server.store.runs import RunStore
from hasty.jobs import PLACE_SEPARATOR
from hasty.server.mongo import COMMITTED, Document, Mongo

MORE_RUNS_GROW_BY: Final = 8
"""Where a place's runs are few in a range of their numbers, the next range is so many times as wide."""

_KEY: Final = {"$arrayElemAt": [{"$split": ["$object_id", PLACE_SEPARATOR]}, -1]}
"""What stands last in a job's place: its key, if it has one."""


class ListingStore:
    """Finds jobs. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo, jobs: JobStore) -> None:
        self._mongo = mongo
        self._jobs = jobs
        self._runs = RunStore(mongo)

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]:
        """Return up to `limit` jobs created from `first` to `last`, the newest first."""
        found = await self._mongo.find(
            "jobs", _between(first, last), sort={"created_at": -1}, limit=limit, batchSize=limit + 1
        )
        return [record_of(row) for row in found]

    async def search(
        self, first: datetime, last: datetime, filters: Filters, root_kind: str, limit: int
    ) -> list[JobRecord]:
        """Return up to `limit` of the jobs created from `first` to `last` that match, the newest first.

        The database looks at each of them, and answers only with what it finds: so few should match.
        """
        pipeline: list[Document] = [
            # Two steps: with more than the index in one filter, SecantusDB scans.
            {"$match": _between(first, last)},
            {"$match": _criteria(filters, root_kind)},
            {"$sort": {"created_at": -1}},
            {"$limit": limit},
        ]
        return [record_of(row) for row in await aggregated(self._mongo, pipeline, limit)]

    async def of_place(self, place: str, before_run: int | None, limit: int) -> list[JobRecord]:
        """Return up to `limit` jobs that had a place, those before a run number if one is given, the newest first."""
        before = before_run
        if before is None:
            before = (await self._runs.latest_numbers([place])).get(place, -1) + 1
        found: list[Document] = []
        width = limit
        # SecantusDB reads all that a range holds before it looks at a limit; of many runs, some may be forgotten.
        while before > 0 and len(found) < limit:
            first = max(before - width, 0)
            criteria: Document = {"object_id": place, "run": {"$gte": first, "$lt": before}}
            most = limit - len(found)
            found += await self._mongo.find("jobs", criteria, sort={"run": -1}, limit=most, batchSize=most + 1)
            before, width = first, width * MORE_RUNS_GROW_BY
        return [record_of(row) for row in found]

    async def members(self, batch: str) -> Sequence[str]:
        """Return the ids of a batch's jobs; none for one that does not exist."""
        found = await self._mongo.find("batches", {"_id": batch})
        job_ids: Sequence[str] = found[0]["job_ids"] if found else ()
        return job_ids

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of jobs; see `JobStore.records`."""
        return await self._jobs.records(job_ids)


async def aggregated(mongo: Mongo, pipeline: Sequence[Document], most: int) -> list[Document]:
    """Return what a pipeline makes of the jobs: `most` documents at most."""
    answer = await mongo.command(
        {"aggregate": "jobs", "pipeline": pipeline, "cursor": {"batchSize": most + 1}, "readConcern": COMMITTED}
    )
    rows: list[Document] = answer["cursor"]["firstBatch"]
    return rows


def _between(first: datetime, last: datetime) -> Document:
    return {"created_at": {"$gte": first, "$lte": last}}


def _criteria(filters: Filters, root_kind: str) -> Document:
    """Write what a job must be; a key without a kind may be found once too often, as the id of a job without one."""
    criteria: Document = {}
    if filters.status is not None:
        criteria["status"] = filters.status.value
    if filters.label is not None:
        criteria["task.labels"] = filters.label
    if filters.kind is not None:
        criteria["task.kind"] = {"$in": [filters.kind, None]} if filters.kind == root_kind else filters.kind
    if filters.key is not None:
        criteria["$expr"] = {"$eq": [_KEY, filters.key]}
    return criteria
