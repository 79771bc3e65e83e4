"""What lists of jobs are made from: see `api_server.listing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from api_server.domain import JobRecord, Row
from api_server.store.jobs import JobStore
from hasty.jobs import Status, key_of_place
from hasty.server.mongo import Document, Mongo

_OF_A_ROW: Final = {
    "object_id": 1,
    "run": 1,
    "created_at": 1,
    "status": 1,
    "batch": 1,
    "task.kind": 1,
    "task.labels": 1,
}


class ListingStore:
    """Finds jobs. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo, jobs: JobStore) -> None:
        self._mongo = mongo
        self._jobs = jobs

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[Row]:
        """Return up to `limit` jobs created from `first` to `last`, the newest first."""
        return await self._rows(
            {"created_at": {"$gte": first, "$lte": last}}, sort={"created_at": -1}, limit=limit, batchSize=limit + 1
        )

    async def of_place(self, place: str, before_run: int | None, limit: int) -> list[Row]:
        """Return up to `limit` jobs that had a place, those before a run number if one is given, the newest first."""
        criteria: Document = {"object_id": place}
        if before_run is not None:
            criteria["run"] = {"$lt": before_run}
        return await self._rows(criteria, sort={"run": -1}, limit=limit, batchSize=limit + 1)

    async def members(self, batch: str) -> list[Row]:
        """Return the jobs of a batch; none for one that does not exist."""
        found = await self._mongo.find("batches", {"_id": batch})
        return await self._rows({"_id": {"$in": found[0]["job_ids"]}}) if found else []

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of jobs; see `JobStore.records`."""
        return await self._jobs.records(job_ids)

    async def _rows(self, criteria: Mapping[str, object], **options: Any) -> list[Row]:
        return [_row(found) for found in await self._mongo.find("jobs", criteria, _OF_A_ROW, **options)]


def _row(found: Document) -> Row:
    task = found.get("task") or {}
    return Row(
        found["_id"],
        found["created_at"],
        Status(found["status"]),
        task.get("kind"),
        key_of_place(found["object_id"]),
        tuple(task.get("labels", ())),
        found.get("batch"),
        found["run"],
    )
