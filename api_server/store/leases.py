"""The api-servers' leases in MongoDB; see `domain.Lease`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from api_server.domain import Claimed, Lease
from api_server.store.jobs import JobStore
from hasty.server.mongo import Document, Mongo, to_document

LEASES_AT_ONCE: Final = 100
TAKEN_OVER_AT_ONCE: Final = 1000

SWEEPS: Final = "sweeps"
"""The id of the document that says who sweeps: {_id, owner, until}. It is no lease, and has no `renewed_at`."""

CLOCK_SLACK: Final = timedelta(seconds=1)
"""The api-servers' estimates of the database's time differ by less."""


_FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


class LeaseStore:
    """The leases, and the jobs under them. Every method raises `StoreUnavailable` when the database fails it."""

    def __init__(self, mongo: Mongo, jobs: JobStore) -> None:
        self._mongo = mongo
        self._jobs = jobs

    async def renew(self, lease: Lease) -> None:
        """Store an api-server's lease, new or renewed."""
        await self._mongo.prepare()
        document = to_document(lease, key="owner")
        statement = {"q": {"_id": document.pop("_id")}, "u": {"$set": document}, "upsert": True}
        await self._mongo.update("leases", statement)

    async def abandoned(self, since: datetime) -> list[Lease]:
        """Return the leases that were renewed before `since` only, up to a hundred, the oldest first."""
        rows = await self._mongo.find(
            "leases", {"renewed_at": {"$lt": since}}, sort={"renewed_at": 1}, limit=LEASES_AT_ONCE
        )
        return [Lease(row["_id"], row["renewed_at"], row["watermark"]) for row in rows]

    async def all(self) -> list[Lease]:
        """Return all leases, up to a hundred, those first that were renewed longest ago."""
        return await self.abandoned(_FOREVER)

    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int:
        """Make a lease's unconfirmed jobs due, those that would be overdue before `until`; how many."""
        taken = 0
        since = lease.watermark
        while True:
            rows = await self._mongo.find(
                "jobs",
                # Bounded: what is dispatched meanwhile comes in again behind.
                {"dispatch_due": {"$gte": since, "$lt": until}},
                {"owner": 1, "dispatch_due": 1},
                uncommitted=True,
                sort={"dispatch_due": 1},
                limit=TAKEN_OVER_AT_ONCE,
            )
            job_ids = _owned(rows, lease.owner)
            moved = await self._jobs.make_due(job_ids, now) if job_ids else 0
            taken += moved
            if len(rows) < TAKEN_OVER_AT_ONCE:
                return taken
            last: datetime = rows[-1]["dispatch_due"]
            # More may be due at the very moment of the last one.
            since = last if moved or last > since else since + timedelta(milliseconds=1)

    async def claim_sweeps(self, owner: str, now: datetime, until: datetime) -> Claimed:
        """Have `owner` be the one that sweeps, until `until`; `Claimed.NO` when another is, later than `now`.

        A claim that ends later than any can, as after the clock was set back, does not count.
        """
        free: Document = {
            "$or": [
                {"$eq": ["$owner", owner]},
                # True as well where there is no claim yet.
                {"$lte": ["$until", now]},
                {"$gt": ["$until", until + CLOCK_SLACK]},
            ]
        }
        changes = {"owner": {"$cond": [free, owner, "$owner"]}, "until": {"$cond": [free, until, "$until"]}}
        statement = {"q": {"_id": SWEEPS}, "u": [{"$set": changes}], "upsert": True}
        answer = await self._mongo.update("leases", statement)
        if answer.get("upserted"):
            return Claimed.FIRST
        return Claimed.AFTER_ANOTHER if answer["nModified"] else Claimed.NO

    async def give_sweeps_back(self, owner: str) -> None:
        """End the claim of `owner`, if it has it."""
        await self._mongo.delete("leases", {"_id": SWEEPS, "owner": owner})

    async def delete(self, lease: Lease) -> None:
        """Delete a lease, unless it was renewed since."""
        await self._mongo.delete("leases", {"_id": lease.owner, "renewed_at": lease.renewed_at})


def _owned(rows: Sequence[dict[str, object]], owner: str) -> list[str]:
    return [str(row["_id"]) for row in rows if row.get("owner") == owner]
