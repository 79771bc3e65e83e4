"""Requests with an idempotency key, and the job that each of them made or is to make; see also `retention`."""

from __future__ import annotations

from collections.abc import Sequence

from api_server.domain import Claim
from hasty.server.mongo import Mongo, from_document, to_document


class RequestStore:
    """The requests. Its method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def claim(self, claims: Sequence[Claim]) -> dict[str, Claim]:
        """Store claims, each with a key of its own; by key, what is stored now: this one, or an earlier one."""
        await self._mongo.prepare()
        refused = await self._mongo.insert("requests", [to_document(claim, key="key") for claim in claims])
        stored = {claim.key: claim for claim in claims}
        if refused:
            keys = [document["_id"] for document in refused]
            rows = await self._mongo.find("requests", {"_id": {"$in": keys}}, uncommitted=True)
            stored |= {row["_id"]: from_document(Claim, row, key="key") for row in rows}
        return stored
