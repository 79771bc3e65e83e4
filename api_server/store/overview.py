"""What the overview is made from: see `api_server.overview`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from api_server.domain import Lived
from hasty.jobs import Status
from hasty.server.mongo import COMMITTED, Document, Mongo

_OF_A_LIFE: Final = {"created_at": 1, "status": 1, "ended_at": 1, "report.started_at": 1, "report.run": 1}
_UNFINISHED: Final = {"dispatch_due": {"$gt": datetime(2000, 1, 1, tzinfo=UTC)}}
"""Jobs that have not ended are the ones that have a time to be dispatched."""


class OverviewStore:
    """Counts jobs. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def lived(self, first: datetime, last: datetime, limit: int) -> list[Lived]:
        """Return up to `limit` jobs created from `first` to `last`, the newest first."""
        criteria = {"created_at": {"$gte": first, "$lte": last}}
        rows = await self._mongo.find(
            "jobs", criteria, _OF_A_LIFE, sort={"created_at": -1}, limit=limit, batchSize=limit + 1
        )
        return [_lived(row) for row in rows]

    async def unfinished(self, limit: int) -> int:
        """Count the jobs that have not ended, up to `limit`."""
        answer = await self._mongo.command({"count": "jobs", "query": _UNFINISHED, "limit": limit})
        return int(answer["n"])

    async def unfinished_of(self, kinds: Collection[str], root_kind: str, limit: int) -> Counter[str]:
        """Count the jobs of some kinds among `limit` that have not ended; those without a kind are of the root kind."""
        wanted: list[str | None] = [*sorted(kinds), *([None] if root_kind in kinds else [])]
        pipeline: list[Document] = [
            # Two steps: with more than the index in one filter, SecantusDB scans.
            {"$match": _UNFINISHED},
            {"$limit": limit},
            {"$match": {"task.kind": {"$in": wanted}}},
            {"$group": {"_id": "$task.kind", "jobs": {"$sum": 1}}},
        ]
        answer = await self._mongo.command(
            {"aggregate": "jobs", "pipeline": pipeline, "cursor": {}, "readConcern": COMMITTED}
        )
        counted = Counter[str]()
        for row in answer["cursor"]["firstBatch"]:
            counted[row["_id"] or root_kind] += row["jobs"]
        return counted


def _lived(row: Document) -> Lived:
    report = row.get("report") or {}
    started_at = report.get("started_at") if report.get("run") else None
    return Lived(row["created_at"], Status(row["status"]), started_at, row.get("ended_at"))
