"""The messages that could not be processed; `hasty.server.mongo` stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from hasty.jobs import DeadLetter
from hasty.server.mongo import DEAD_LETTERS_KEPT_S, Mongo

FIRST_WIDTH: Final = timedelta(minutes=1)
"""How much of the past is read first, of which SecantusDB reads all; each further step reads so many times as much:"""

WIDTH_GROWS_BY: Final = 8
_KEPT_FOR: Final = timedelta(seconds=DEAD_LETTERS_KEPT_S)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


class DeadLetterStore:
    """This service's dead letters. Its method raises `StoreUnavailable` when the database fails it in any way.

    `now` gives the database's time.
    """

    def __init__(self, mongo: Mongo, *, now: Callable[[], datetime]) -> None:
        self._mongo = mongo
        self._now = now

    async def latest(self, limit: int) -> Sequence[tuple[datetime, DeadLetter]]:
        """Return up to `limit` dead letters and when each was stored, the newest first."""
        now, width = self._now(), FIRST_WIDTH
        while True:
            last = width >= _KEPT_FOR
            rows = await self._mongo.find(
                "dead_letters",
                {"at": {"$gt": _LONG_AGO if last else now - width}},
                sort={"at": -1},
                limit=limit,
                batchSize=limit + 1,
            )
            if last or len(rows) >= limit:
                return [
                    (row["at"], DeadLetter(row["_id"], row["subject"], bytes(row["data"]), row["reason"]))
                    for row in rows
                ]
            width *= WIDTH_GROWS_BY
