"""Which of many jobs have ended, asked often and for many at once."""

from __future__ import annotations

from collections.abc import Sequence

from hasty.jobs import TERMINAL, Status
from hasty.server.mongo import Mongo


class StatusStore:
    """The statuses of jobs. Its method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def ended(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of these jobs that have ended."""
        rows = await self._mongo.find("jobs", {"_id": {"$in": list(job_ids)}}, {"_id": 1, "status": 1})
        return {row["_id"] for row in rows if Status(row["status"]) in TERMINAL}
