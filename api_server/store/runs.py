"""The latest run of each object, which decides whether it may have another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from api_server.domain import Run
from hasty.jobs import Status
from hasty.server.mongo import COMMITTED, Document, Mongo

LONG_FROM: Final = 16
"""From so many runs on, an object's latest known run is remembered; for so many objects at most:"""

LONG_REMEMBERED: Final = 10_000


class RunStore:
    """The runs of objects, looked up quickly however many there are."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        # Objects with many runs, and a run of each that exists: SecantusDB looks at every run from there on.
        self._long: dict[str, int] = {}

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]:
        """Return the latest run of each of these objects; objects without one are left out."""
        await self._mongo.prepare()
        rows = await self._latest(object_ids)
        while marked := [row["job_id"] for row in rows if row["forget_at"] is not None]:
            # They are about to be forgotten, see `api_server.retention`: what is decided on next must stay.
            await self._keep(marked)
            rows = await self._latest(object_ids)
        return {row["object_id"]: _run(row) for row in rows}

    async def latest_numbers(self, object_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of the latest run of each of these objects, to decide nothing but what is forgotten."""
        return {row["object_id"]: row["run"] for row in await self._latest(object_ids)}

    async def _latest(self, object_ids: Sequence[str]) -> list[Document]:
        long = [object_id for object_id in object_ids if object_id in self._long]
        short = [object_id for object_id in object_ids if object_id not in self._long]
        found = await self._latest_of(short) if short else []
        since = await asyncio.gather(*(self._latest_since(object_id, self._long[object_id]) for object_id in long))
        rows = [row for some in (found, *since) for row in some]
        for row in rows:
            if row["run"] >= LONG_FROM:
                self._remember(row["object_id"], row["run"])
        return rows

    async def _keep(self, job_ids: Sequence[str]) -> None:
        """Take the marks away, durable when this returns; what is sealed already is deleted."""
        sealed = {"$ifNull": ["$forgotten", False]}
        changes = {"forget_at": {"$cond": [sealed, "$forget_at", "$$REMOVE"]}}
        found = {"_id": {"$in": list(job_ids)}}
        await self._mongo.update("jobs", {"q": found, "u": [{"$set": changes}], "multi": True})
        rows = await self._mongo.find("jobs", found, {"forgotten": 1})
        if gone := [row["_id"] for row in rows if row.get("forgotten")]:
            await self._mongo.delete_all("jobs", gone)

    async def _latest_of(self, object_ids: Sequence[str]) -> list[Document]:
        answer = await self._mongo.command(
            {
                "aggregate": "jobs",
                "pipeline": [
                    {"$match": {"object_id": {"$in": list(object_ids)}}},
                    # Sorted as the index is, so that MongoDB makes one step in it for each group.
                    {"$sort": {"object_id": 1, "run": -1}},
                    {
                        "$group": {
                            "_id": "$object_id",
                            "run": {"$first": "$run"},
                            "job_id": {"$first": "$_id"},
                            "created_at": {"$first": "$created_at"},
                            "status": {"$first": "$status"},
                            "forget_at": {"$first": "$forget_at"},
                        }
                    },
                ],
                "cursor": {"batchSize": len(object_ids) + 1},
                "readConcern": COMMITTED,
            }
        )
        return [
            {**row, "object_id": row["_id"], "forget_at": row.get("forget_at")}
            for row in answer["cursor"]["firstBatch"]
        ]

    async def _latest_since(self, object_id: str, number: int) -> list[Document]:
        """Look at an object's runs from one on that is known to exist: run numbers never go back."""
        criteria = {"object_id": object_id, "run": {"$gte": number}}
        rows = await self._mongo.find("jobs", criteria, sort={"run": -1}, limit=1)
        if not rows:
            # The known run was deleted.
            self._long.pop(object_id, None)
            return await self._latest_of([object_id])
        return [{**row, "job_id": row["_id"], "forget_at": row.get("forget_at")} for row in rows]

    def _remember(self, object_id: str, number: int) -> None:
        self._long.pop(object_id, None)
        self._long[object_id] = number
        if len(self._long) > LONG_REMEMBERED:
            del self._long[next(iter(self._long))]


def _run(row: Document) -> Run:
    processing = row["status"] == Status.PROCESSING.value
    return Run(row["object_id"], row["run"], row["job_id"], row["created_at"], processing)
