"""The list of dead letters, on a real server."""

from datetime import timedelta

import pytest

from api_server.store import CALL_TIMEOUT_S, DATABASE, INDEXES
from api_server.store.dead_letters import DeadLetterStore
from hasty.server.mongo import Mongo
from tests.store.jobs import letter

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGES_S = [0, 30, 3_600, 3_601, 20 * 24 * 3600]


async def test_dead_letters_are_found_however_old_they_are(url: str) -> None:
    """The newest first, up to a limit."""
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        now = (await mongo.server_time()).at
        for age_s in reversed(AGES_S):
            await mongo.dead_letter([letter(f"job:finished:{age_s}")], now - timedelta(seconds=age_s))
        store = DeadLetterStore(mongo, now=lambda: now)
        for limit in range(1, 7):
            found = await store.latest(limit)
            assert [now - at for at, _ in found] == [timedelta(seconds=age_s) for age_s in AGES_S[:limit]]
            assert [stored for _, stored in found] == [letter(f"job:finished:{age_s}") for age_s in AGES_S[:limit]]
