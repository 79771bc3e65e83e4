"""The simulated replica set does what a driver sees of a real one; the tests of the services rest on that."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import NotPrimaryError, WriteConcernError, WTimeoutError
from pymongo.read_concern import ReadConcern

from tests.eventually import eventually
from tests.replica_set.copying import client, contents
from tests.replica_set.replica_set import CLOCKS_APART, LAG_S, ReplicaSet

pytestmark = pytest.mark.asyncio(loop_scope="session")

Things: TypeAlias = AsyncCollection[dict[str, Any]]
ONE = WriteConcern(w=1, j=True)
MAJORITY = WriteConcern(w="majority", j=True)


@pytest_asyncio.fixture(loop_scope="session")
async def things(members: ReplicaSet) -> AsyncIterator[Things]:
    """A collection of the test's own, seen by a driver that was given the set's URL."""
    url = members.url("test", "&retryWrites=false&heartbeatFrequencyMS=500")
    async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as driver:
        yield driver.get_default_database()[f"things_{uuid.uuid4().hex}"].with_options(write_concern=MAJORITY)


async def test_secondary_refuses_commands(members: ReplicaSet, things: Things) -> None:
    """With the error by which a driver learns that it must look for the primary."""
    await things.insert_one({"_id": 1})
    assert members.primary is not None
    (secondary,) = {f"{host}:{port}" for host, port in things.database.client.nodes} - {members.primary.address}

    async with client(secondary) as direct:
        with pytest.raises(NotPrimaryError, match="10107"):
            await direct.test.things.insert_one({"_id": 2})


@pytest.mark.parametrize("election", ["step_down", "crash"])
async def test_election_loses_what_w1_acknowledged(election: str, members: ReplicaSet, things: Things) -> None:
    """The write was on the disk of one member, who is no longer asked."""
    await things.insert_one({"_id": "before"})
    rolled_back = members.rolled_back

    with members.lagging():
        await things.with_options(write_concern=ONE).insert_one({"_id": "lost"})
        await getattr(members, election)()

    await things.insert_one({"_id": "after"})
    assert [thing["_id"] for thing in await things.find().to_list()] == ["before", "after"]
    assert members.rolled_back == rolled_back + 1


@pytest.mark.parametrize("election", ["step_down", "crash"])
async def test_election_keeps_what_majority_acknowledged(election: str, members: ReplicaSet, things: Things) -> None:
    """The new primary has it."""
    began = time.monotonic()
    await things.insert_one({"_id": "kept"})

    await getattr(members, election)()

    assert time.monotonic() - began >= LAG_S
    assert [thing["_id"] for thing in await things.find().to_list()] == ["kept"]


async def test_members_have_the_same_after_concurrent_writes(members: ReplicaSet, things: Things) -> None:
    """Writes reach both databases in one order."""
    await asyncio.gather(*(things.insert_one({"_id": number, "last": 0}) for number in range(8)))
    one = things.with_options(write_concern=ONE)
    changes = [{"$set": {"last": {"$add": [{"$multiply": ["$last", 3]}, change]}}} for change in range(40)]
    await asyncio.gather(*(one.update_one({"_id": number % 8}, [change]) for number, change in enumerate(changes)))

    await members.caught_up()

    primary, secondary = [await contents(url) for url in members.direct_urls()]
    assert primary[things.full_name] == secondary[things.full_name]
    assert len(primary[things.full_name]) == 8


async def test_majority_read_sees_what_cannot_be_lost(members: ReplicaSet, things: Things) -> None:
    """A plain read sees what an election may still take back."""
    await things.insert_one({"_id": "common"})
    with members.lagging():
        await things.with_options(write_concern=ONE).insert_one({"_id": "primary's alone"})

        plain = await things.find().to_list()
        committed = await things.with_options(read_concern=ReadConcern("majority")).find().to_list()

    assert {thing["_id"] for thing in plain} == {"common", "primary's alone"}
    assert {thing["_id"] for thing in committed} == {"common"}


async def test_majority_is_waited_for_no_longer_than_asked(members: ReplicaSet, things: Things) -> None:
    """The write stands; only its answer says that it may still be lost."""
    short_timeout = things.with_options(write_concern=WriteConcern(w="majority", wtimeout=50))

    with members.lagging(), pytest.raises(WTimeoutError):
        await short_timeout.insert_one({"_id": 1})

    assert await things.find_one({"_id": 1}) == {"_id": 1}


async def test_step_down_interrupts_those_who_wait(members: ReplicaSet, things: Things) -> None:
    """They learn that the write may be lost, and it is."""
    await things.insert_one({"_id": "before"})

    async def written() -> bool:
        return await things.count_documents({}) == 2

    with members.lagging():
        waiting = asyncio.create_task(things.insert_one({"_id": "lost"}), name="waiting")
        await eventually(written)
        await members.step_down()

    with pytest.raises(WriteConcernError) as interrupted:
        await waiting
    assert interrupted.value.code == 189
    assert await things.count_documents({}) == 1


async def test_clock_jumps_at_an_election(members: ReplicaSet, things: Things) -> None:
    """By what the members' clocks are apart."""
    await things.insert_one({"_id": 1})
    before = (await things.database.command("hello"))["localTime"]
    began = time.monotonic()

    await members.step_down()

    await things.insert_one({"_id": 2})
    after = (await things.database.command("hello"))["localTime"]
    passed = time.monotonic() - began
    jumped = abs((after - before).total_seconds() - passed)
    assert CLOCKS_APART.total_seconds() - 2 * passed - 1 <= jumped <= CLOCKS_APART.total_seconds() + 2 * passed + 1
