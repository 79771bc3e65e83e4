"""The database's clocks, and what the api-servers agreed on about them; see `api_server.clock`."""

from __future__ import annotations

from datetime import timedelta

from api_server.clock import Shared
from hasty.server.mongo import Mongo, ServerTime


class ClockStore:
    """The clocks. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def server_time(self) -> ServerTime:
        """Return the primary's time."""
        return await self._mongo.server_time()

    async def share(self, member: str, shared: Shared) -> None:
        """Store by how much the api-servers' time is ahead of a member's clock."""
        change = {"ahead_s": shared.ahead.total_seconds(), "at": shared.at}
        await self._mongo.update("clocks", {"q": {"_id": member}, "u": {"$set": change}, "upsert": True})

    async def shared(self, member: str) -> Shared | None:
        """Return what was stored last about a member's clock."""
        for row in await self._mongo.find("clocks", {"_id": member}):
            return Shared(timedelta(seconds=row["ahead_s"]), row["at"])
        return None
