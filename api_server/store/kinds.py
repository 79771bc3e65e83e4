"""The kinds that job-servers have announced, each version for itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

from api_server.domain import KindVersion
from hasty.jobs import Kind, Way
from hasty.server.mongo import Document, Mongo

KNOWN_MAX: Final = 10_000
"""So many versions of all kinds are read at most."""


class KindStore:
    """The versions of kinds. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def announce(self, kinds: Sequence[Kind], now: datetime) -> None:
        """Store versions of kinds, or note that they were seen again."""
        await self._mongo.prepare()
        await self._mongo.update(
            "kinds",
            *(
                {
                    "q": {"_id": kind_id(kind)},
                    "u": {
                        "$set": {"kind": {**asdict(kind), "way": kind.way.value}, "seen_at": now},
                        "$setOnInsert": {"first_at": now},
                    },
                    "upsert": True,
                }
                for kind in kinds
            ),
        )

    async def seen(self) -> dict[str, datetime]:
        """Return which versions there are, by `kind_id`, and when each was last seen."""
        rows = await self._mongo.find("kinds", {}, {"_id": 1, "seen_at": 1}, limit=KNOWN_MAX)
        return {row["_id"]: row["seen_at"] for row in rows}

    async def load(self, ids: Collection[str]) -> list[KindVersion]:
        """Return these versions; unknown ones are left out."""
        rows = await self._mongo.find("kinds", {"_id": {"$in": list(ids)}})
        return [KindVersion(_kind(row["kind"]), row["first_at"], row["seen_at"]) for row in rows]

    async def touch(self, ids: Collection[str], now: datetime) -> None:
        """Note that these versions are served now."""
        statement = {"q": {"_id": {"$in": list(ids)}}, "u": {"$set": {"seen_at": now}}, "multi": True}
        await self._mongo.update("kinds", statement)

    async def forget(self, ids: Collection[str]) -> None:
        """Remove these versions."""
        for version in ids:
            await self._mongo.delete("kinds", {"_id": version})


def kind_id(kind: Kind) -> str:
    """Return what identifies a version of a kind: no name has a colon."""
    return f"{kind.name}:{kind.version}"


def _kind(row: Document) -> Kind:
    return Kind(**{**row, "way": Way(row["way"])})
