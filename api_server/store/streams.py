"""Which streams there were when jobs were last published to them; see `api_server.topology`."""

from __future__ import annotations

from collections.abc import Mapping

from hasty.server.mongo import Mongo


class StreamStore:
    """The identities of the streams. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def identities(self) -> dict[str, str]:
        """Return the identity of each stream that was remembered, by its name."""
        return {row["_id"]: row["identity"] for row in await self._mongo.find("streams", {})}

    async def remember(self, identities: Mapping[str, str]) -> None:
        """Store which streams there are now."""
        statements = (
            {"q": {"_id": stream}, "u": {"$set": {"identity": identity}}, "upsert": True}
            for stream, identity in identities.items()
        )
        await self._mongo.update("streams", *statements)
