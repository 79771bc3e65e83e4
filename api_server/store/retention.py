"""What is forgotten: see `api_server.retention`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from api_server.domain import Note, OldJob
from api_server.store.runs import RunStore
from hasty.jobs import Status
from hasty.server.mongo import Document, Mongo

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No job is older."""

STEP_MAX: Final = 500
"""How many documents are read at once."""

_OF_AN_OLD_JOB: Final = {
    "object_id": 1,
    "run": 1,
    "created_at": 1,
    "ended_at": 1,
    "status": 1,
    "turn_number": 1,
    "task.kind": 1,
    "forget_at": 1,
}


class RetentionStore:
    """Forgets jobs. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo, runs: RunStore) -> None:
        self._mongo = mongo
        self.latest_numbers = runs.latest_numbers

    async def old(self, first: datetime, last: datetime, limit: int) -> list[OldJob]:
        """Return up to `limit` jobs created from `first` to `last`, the oldest first."""
        criteria = {"created_at": {"$gte": first, "$lte": last}}
        rows = await self._mongo.find(
            "jobs", criteria, _OF_AN_OLD_JOB, sort={"created_at": 1}, limit=limit, batchSize=limit + 1
        )
        return [_old_job(row) for row in rows]

    async def mark(self, job_ids: Sequence[str], now: datetime) -> None:
        """Mark jobs, durable when this returns."""
        await self._mongo.update("jobs", _each(job_ids, {"forget_at": now}))

    async def seal(self, job_ids: Sequence[str], marked_before: datetime) -> list[str]:
        """Seal those of these jobs that were marked before a time and still are, and return them."""
        # A mark that was taken away is missing, and would count as the earliest time of all.
        holds = {"$and": [{"$eq": [{"$type": "$forget_at"}, "date"]}, {"$lte": ["$forget_at", marked_before]}]}
        await self._mongo.update("jobs", _each(job_ids, {"forgotten": {"$cond": [holds, True, "$$REMOVE"]}}))
        rows = await self._mongo.find("jobs", {"_id": {"$in": list(job_ids)}}, {"forgotten": 1})
        return [row["_id"] for row in rows if row.get("forgotten")]

    async def delete(self, job_ids: Sequence[str]) -> None:
        """Delete jobs, durable when this returns."""
        if job_ids:
            await self._mongo.delete_all("jobs", job_ids)

    async def note(self, note: Note) -> None:
        """Store a note, durable when this returns."""
        turns = [[job_id, count] for job_id, count in note.turns.items()]
        await self._mongo.insert("forgotten", [{"_id": note.note_id, "turns": turns}])

    async def notes(self, limit: int) -> list[Note]:
        """Return up to `limit` notes."""
        rows = await self._mongo.find("forgotten", {}, limit=limit, batchSize=limit + 1)
        return [Note(row["_id"], dict(row["turns"])) for row in rows]

    async def drop_notes(self, note_ids: Sequence[str]) -> None:
        """Delete notes."""
        if note_ids:
            await self._mongo.delete_all("forgotten", note_ids)

    async def existing(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of these jobs that exist, whether or not an election may still take them back."""
        return await self._existing("jobs", job_ids)

    async def _existing(self, collection: str, ids: Sequence[str]) -> set[str]:
        rows = await self._mongo.find(collection, {"_id": {"$in": list(ids)}}, {"_id": 1}, uncommitted=True)
        return {row["_id"] for row in rows}

    async def forget_requests(self, before: datetime) -> None:
        """Delete the batches and the idempotency keys that were made before a time and of which no job exists."""
        await self._forget("batches", before, lambda row: row["job_ids"])
        await self._forget("requests", before, lambda row: [row["job_id"]])

    async def _forget(self, collection: str, before: datetime, job_ids_of: Callable[[Document], list[str]]) -> None:
        first = BEGINNING
        while True:
            criteria = {"at": {"$gte": first, "$lt": before}}
            rows = await self._mongo.find(collection, criteria, sort={"at": 1}, limit=STEP_MAX, batchSize=STEP_MAX + 1)
            ids = {job_id for row in rows for job_id in job_ids_of(row)}
            found = await self.existing(list(ids)) if ids else set()
            if collection == "requests" and ids:
                # The key of a batch names the batch.
                found |= await self._existing("batches", list(ids))
            if gone := [row["_id"] for row in rows if found.isdisjoint(job_ids_of(row))]:
                await self._mongo.delete_all(collection, gone)
            if len(rows) < STEP_MAX:
                return
            first = max(rows[-1]["at"], first + timedelta(milliseconds=1))


def _each(job_ids: Sequence[str], changes: Document) -> Document:
    return {"q": {"_id": {"$in": list(job_ids)}}, "u": [{"$set": changes}], "multi": True}


def _old_job(row: Document) -> OldJob:
    return OldJob(
        row["_id"],
        row["object_id"],
        row["run"],
        row["created_at"],
        Status(row["status"]),
        row.get("ended_at"),
        (row.get("task") or {}).get("kind"),
        row.get("turn_number", 1),
        row.get("forget_at"),
    )
