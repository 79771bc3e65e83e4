"""The proof that a database writes, which a probe may ask for as often as it likes."""

import uuid
from typing import Any

import pymongo
import pytest

from hasty.server.mongo import Mongo, StoreRefused, StoreUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_database_proves_by_a_write_every_few_seconds(url: str) -> None:
    """What was confirmed lately is a proof as well, so that nothing is written twice for it."""
    async with Mongo.opened(url, name="unused", indexes={}, timeout_s=5) as mongo:
        for _ in range(3):
            await mongo.prove_writes()
        assert proofs(url) == 1
        await mongo.prove_writes(max_age_s=0)
        assert proofs(url) == 2
    async with Mongo.opened(url, name="unused", indexes={}, timeout_s=5) as mongo:
        await mongo.insert("things", [{"_id": uuid.uuid4().hex}])
        await mongo.prove_writes()
    assert proofs(url) == 2


async def test_refusal_differs_from_silence(url: str) -> None:
    """Only who answers can say that it will not."""
    async with Mongo.opened(url, name="unused", indexes={}, timeout_s=5) as mongo:
        with pytest.raises(StoreRefused):
            await mongo.command({"noSuchCommand": 1})
    nobody = "mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=100&retryWrites=false"
    async with Mongo.opened(nobody, name="unused", indexes={}, timeout_s=1) as mongo:
        with pytest.raises(StoreUnavailable) as silence:
            await mongo.prove_writes()
    assert not isinstance(silence.value, StoreRefused)


def proofs(url: str) -> int:
    """How many writes were made for nothing but the proof."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        found = client.get_default_database().get_collection("probes").find_one({"_id": "write"})
    return 0 if found is None else int(found["count"])
