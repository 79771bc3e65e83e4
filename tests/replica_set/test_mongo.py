"""What the services ask of their database holds in a replica set: durable writes, reads that no election takes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api_server.store.jobs import JobStore
from api_server.store.runs import RunStore
from hasty.jobs import Job
from hasty.server.mongo import Mongo, StoreUnavailable, write_concern
from tests.eventually import eventually
from tests.replica_set.replica_set import ReplicaSet

pytestmark = pytest.mark.asyncio(loop_scope="session")

INDEXES = {"things": [{"key": {"kind": 1}, "name": "kind", "unique": True}]}
TIMEOUT_S = 5.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def mongo(members: ReplicaSet) -> AsyncIterator[Mongo]:
    """A service's database, empty at first."""
    url = members.url(f"test_{uuid.uuid4().hex}")
    async with Mongo.opened(url, name="test", indexes=INDEXES, timeout_s=TIMEOUT_S) as opened:
        await opened.ping()
        yield opened


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, {"w": "majority", "j": True, "wtimeout": 2000}),
        ({"w": 3}, {"w": 3, "j": True, "wtimeout": 2000}),
        ({"w": 1, "j": False}, {"w": 1, "j": True, "wtimeout": 2000}),
        ({"w": 0}, {"w": 1, "j": True, "wtimeout": 2000}),
        ({"wtimeout": 700}, {"w": "majority", "j": True, "wtimeout": 700}),
    ],
)
async def test_writes_wait_for_a_majority_unless_told(asked: dict[str, Any], given: dict[str, Any]) -> None:
    """Always for the journal, and never without an answer."""
    assert write_concern(asked, timeout_s=2.5) == given


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("w=0", "w=1 in its URL waits for no other member"),
        ("w=1", "w=1 in its URL waits for no other member"),
        ("w=2", "w=2 in its URL waits for 2 members, less than a majority of 4 or more"),
        ("w=3", "w=3 in its URL waits for 3 members, less than a majority of 6 or more"),
        ("w=near", "w=near in its URL waits for the members with a tag, which may be less than a majority"),
    ],
)
async def test_less_than_a_majority_is_warned_about(options: str, says: str) -> None:
    """At the start, before anything can be lost; how many members there are is not known then."""
    (line,) = await _logged_at_start(options)

    assert (line["event"], line["log_level"]) == ("write_concern_below_majority", "warning")
    assert line["reason"].startswith(f"{says}: an election in a replica set may lose writes")


@pytest.mark.parametrize("options", ["", "w=majority", "wTimeoutMS=700"])
async def test_majority_is_not_warned_about(options: str) -> None:
    """It is what every write asks for."""
    assert await _logged_at_start(options) == []


async def _logged_at_start(options: str) -> list[Any]:
    with capture_logs() as logs:
        async with Mongo.opened(f"mongodb://127.0.0.1:1/x?{options}", name="x", indexes={}, timeout_s=1):
            pass
    return list(logs)


async def test_write_survives_an_election(members: ReplicaSet, mongo: Mongo) -> None:
    """And so do the indexes that were made just before it."""
    await mongo.prepare()
    await mongo.insert("things", [{"_id": 1, "kind": "a"}])

    await members.step_down()

    assert await mongo.find("things", {}, uncommitted=True) == [{"_id": 1, "kind": "a"}]
    assert await mongo.insert("things", [{"_id": 2, "kind": "a"}]) == [{"_id": 2, "kind": "a"}]


async def test_indexes_wait_for_a_majority(members: ReplicaSet, mongo: Mongo) -> None:
    """A unique index that an election takes back would let a second job in."""

    async def made() -> bool:
        try:
            answer = await mongo.command({"listIndexes": "things"})
        except StoreUnavailable:
            return False  # there is no such collection yet
        return len(answer["cursor"]["firstBatch"]) == 2

    with members.lagging():
        preparing = asyncio.create_task(mongo.prepare(), name="prepare")
        await eventually(made)
        await members.step_down()

    with pytest.raises(StoreUnavailable, match="PrimarySteppedDown"):
        await preparing


async def test_command_is_repeated_on_the_new_primary(members: ReplicaSet, mongo: Mongo) -> None:
    """The old one refuses it, so nobody has executed it."""
    await mongo.insert("things", [{"_id": 1}])
    await members.step_down()

    assert await mongo.insert("things", [{"_id": 2}]) == []


async def test_interrupted_wait_means_unknown(members: ReplicaSet, mongo: Mongo) -> None:
    """The write was rolled back here; its caller repeats it."""

    async def written() -> bool:
        return bool(await mongo.find("things", {}, uncommitted=True))

    with members.lagging():
        inserting = asyncio.create_task(mongo.insert("things", [{"_id": 1}]), name="insert")
        await eventually(written)
        await members.step_down()

    with pytest.raises(StoreUnavailable, match="PrimarySteppedDown"):
        await inserting
    assert await mongo.insert("things", [{"_id": 1}]) == []


async def test_late_majority_means_unknown(members: ReplicaSet) -> None:
    """The write may be confirmed later, as it is here."""
    name = f"test_{uuid.uuid4().hex}"
    options = "&wtimeoutMS=50"
    async with Mongo.opened(members.url(name, options), name=name, indexes={}, timeout_s=TIMEOUT_S) as short_timeout:
        with members.lagging(), pytest.raises(StoreUnavailable, match="WriteConcernTimeout"):
            await short_timeout.insert("things", [{"_id": 1}])

        await members.caught_up()

        assert await short_timeout.find("things", {}) == [{"_id": 1}]


async def test_unconfirmed_job_is_not_unknown(members: ReplicaSet, mongo: Mongo) -> None:
    """A new primary may not know yet that a majority has a job that was answered 201."""
    jobs = JobStore(mongo)
    job = Job(job_id="job", object_id="x", run=1, created_at=NOW)
    await mongo.prepare()
    with members.lagging():
        inserting = asyncio.create_task(jobs.insert([job], NOW, "owner"), name="insert")
        await eventually(lambda: mongo.find("jobs", {}, uncommitted=True))
        with pytest.raises(StoreUnavailable, match="not confirmed"):
            await jobs.get(["job", "no job"])
    await inserting

    assert list(await jobs.get(["job", "no job"])) == ["job"]


async def test_read_sees_what_no_election_takes_back(members: ReplicaSet, mongo: Mongo) -> None:
    """What only the primary has is seen by those who ask for it."""
    run = {"_id": "job", "object_id": "x", "run": 1, "created_at": NOW}
    await mongo.prepare()
    await mongo.insert("jobs", [{**run, "_id": "earlier"}])

    async def written() -> bool:
        return len(await mongo.find("jobs", {}, uncommitted=True)) == 2

    with members.lagging():
        inserting = asyncio.create_task(mongo.insert("jobs", [{**run, "run": 2}]), name="insert")
        await eventually(written)
        committed = await mongo.find("jobs", {})
        latest = await RunStore(mongo).latest_runs(["x"])

    assert [row["_id"] for row in committed] == ["earlier"]
    assert latest["x"].number == 1
    await inserting
    assert (await RunStore(mongo).latest_runs(["x"]))["x"].number == 2
