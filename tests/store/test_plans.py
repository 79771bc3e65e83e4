"""Every query uses an index: what the stores really send is explained by a real server."""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
import pytest_asyncio

from api_server.domain import Batch, Claim, Filters, Lease, Run
from api_server.store import CALL_TIMEOUT_S, DATABASE, INDEXES
from api_server.store.batches import BatchStore
from api_server.store.dead_letters import DeadLetterStore
from api_server.store.jobs import JobStore
from api_server.store.kinds import KNOWN_MAX, KindStore
from api_server.store.listing import ListingStore
from api_server.store.overview import OverviewStore
from api_server.store.requests import RequestStore
from api_server.store.retention import RetentionStore
from api_server.store.runs import RunStore
from api_server.store.statuses import StatusStore
from hasty.jobs import Ending, Job, Status, Turn
from hasty.server.mongo import Mongo
from tests.store.conftest import RealEndings, RealStore

pytestmark = pytest.mark.asyncio(loop_scope="session")

OWNER = "an api-server"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
JOBS = 2_000
RUNS = 200


def listen(store: RealStore | RealEndings | Everything, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the commands that a store sends from now on."""
    sent: list[dict[str, Any]] = []
    mongo = store._mongo  # noqa: SLF001 - the one place through which every command goes
    send = mongo.command

    async def send_and_collect(command: dict[str, Any]) -> dict[str, Any]:
        sent.append(copy.deepcopy(command))
        return await send(command)

    monkeypatch.setattr(mongo, "command", send_and_collect)
    return sent


def queries(command: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The queries in a command: collection, filter, and options of a find that picks the same documents."""
    if "find" in command:
        yield command["find"], command["filter"], {key: command[key] for key in ("sort", "limit") if key in command}
    if "aggregate" in command:
        yield command["aggregate"], command["pipeline"][0]["$match"], {}
    if "update" in command:
        for update in command["updates"]:
            yield command["update"], update["q"], {}
    if "count" in command:
        yield command["count"], command["query"], {"limit": command["limit"]}
    for delete in command.get("deletes", ()):
        # One of the few leases has a condition beside its `_id`, with which SecantusDB scans.
        if command["delete"] != "leases":
            yield command["delete"], delete["q"], {}


def stages(plan: Any) -> Iterator[str]:
    """All stages of a plan, however deep."""
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan["stage"]
        for part in plan.values():
            yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


def explain(database: pymongo.database.Database[Any], command: Mapping[str, Any]) -> list[tuple[set[str], int]]:
    """For each query of a command: the stages of its plan, and how many documents it looks at."""
    found = []
    for collection, criteria, options in queries(command):
        answer = database.command(
            {"explain": {"find": collection, "filter": criteria, **options}, "verbosity": "executionStats"}
        )
        plan = answer["queryPlanner"]["winningPlan"]
        found.append((set(stages(plan)), answer["executionStats"]["totalDocsExamined"]))
    return found


def new_job(object_id: str, number: int = 1) -> Job:
    """A job as the service makes it."""
    return Job(str(uuid.uuid4()), object_id, number, NOON)


async def test_every_query_of_the_api_server_uses_an_index(
    real_jobs: RealStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And looks at what it returns, not at what there is."""
    jobs = [new_job(f"object {number}") for number in range(JOBS)]
    for start in range(0, JOBS, 500):
        await real_jobs.insert(jobs[start : start + 500], NOON + timedelta(hours=1), OWNER)
    long = [new_job("long", number) for number in range(1, RUNS + 1)]
    await real_jobs.insert(long, NOON + timedelta(hours=1), OWNER)
    await real_jobs.insert([new_job("due")], NOON, OWNER)
    assert (await real_jobs.latest_runs(["long"]))["long"] == Run("long", RUNS, long[-1].job_id, NOON, processing=True)

    sent = listen(real_jobs, monkeypatch)
    some = [job.job_id for job in jobs[:3]]
    assert len(await real_jobs.get(some)) == 3
    assert len(await real_jobs.due(NOON, 10)) == 1
    assert len(await real_jobs.latest_runs([job.object_id for job in jobs[:3]])) == 3
    # The second time, an object with many runs is looked at from where it was known.
    assert (await real_jobs.latest_runs(["long"]))["long"] == Run("long", RUNS, long[-1].job_id, NOON, processing=True)
    await real_jobs.mark_dispatched(some, 1, NOON)
    await real_jobs.apply(Status.FINISHED, [Ending(Turn(job_id, "x", 1), Status.FINISHED, 1) for job_id in some], NOON)
    await real_jobs.make_due(some, NOON)
    for number in range(100):
        await real_jobs.renew(Lease(f"api-server {number}", NOON + timedelta(seconds=number), NOON))
    assert len(await real_jobs.abandoned(NOON + timedelta(seconds=2))) == 2
    lease = Lease("api-server 0", NOON, NOON + timedelta(hours=2))
    await real_jobs.insert([replace(new_job("late"), dispatches=1)], NOON + timedelta(hours=2), lease.owner)
    assert await real_jobs.take_over(lease, NOON, NOON + timedelta(hours=3)) == 1
    await real_jobs.delete(lease)
    await real_jobs.make_all_due(NOON + timedelta(minutes=59, seconds=59.999))

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        plans = {str(command)[:200]: explain(client.get_default_database(), command) for command in sent}
    assert len([plan for found in plans.values() for plan in found]) >= 7
    for command, found in plans.items():
        for stages_of_plan, examined in found:
            assert "COLLSCAN" not in stages_of_plan, command
            # What makes everything due has to look at everything that is unfinished.
            if "'dispatch_due': {'$gt'" not in command:
                assert examined <= 3, (command, examined)


async def test_every_query_of_the_job_server_uses_an_index(
    real_endings: RealEndings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only ever asks for ids."""
    endings = [Ending(Turn(str(uuid.uuid4()), "x", 1), Status.FINISHED, 1, 1) for _ in range(JOBS)]
    for start in range(0, JOBS, 500):
        await real_endings.record(endings[start : start + 500])

    sent = listen(real_endings, monkeypatch)
    assert len(await real_endings.recorded([ending.job_id for ending in endings[:3]])) == 3
    assert len(await real_endings.record(endings[:2])) == 2

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        found = [plan for command in sent for plan in explain(client.get_default_database(), command)]
    assert len(found) == 2
    for stages_of_plan, examined in found:
        assert "COLLSCAN" not in stages_of_plan
        assert examined <= 3


class Everything:
    """All of the api-server's stores that answer `/v1` or forget, over one database."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self.jobs = JobStore(mongo)
        self.listing = ListingStore(mongo, self.jobs)
        self.batches = BatchStore(mongo, self.jobs)
        self.overview = OverviewStore(mongo)
        self.dead_letters = DeadLetterStore(mongo, now=lambda: datetime.now(UTC))
        self.requests = RequestStore(mongo)
        self.retention = RetentionStore(mongo, RunStore(mongo))
        self.statuses = StatusStore(mongo)
        self.kinds = KindStore(mongo)


@pytest_asyncio.fixture(loop_scope="session")
async def everything(url: str) -> AsyncIterator[Everything]:
    """A database with jobs a second apart, and a batch, a request, a note and a dead letter for each of them.

    Every hundredth job is unfinished; the first ones have one place together.
    """
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        stores, now = Everything(mongo), datetime.now(UTC)
        jobs = [
            Job(f"job {n}", "many runs" if n < RUNS else f"object {n}", n, NOON + n * SECOND, dispatches=1)
            for n in range(JOBS)
        ]
        for start in range(0, JOBS, 500):
            await stores.jobs.insert(jobs[start : start + 500], NOON + timedelta(days=1), OWNER)
            ended = [Ending(job.turn, Status.FINISHED, 1) for job in jobs[start : start + 500] if job.run % 100]
            await stores.jobs.apply(Status.FINISHED, ended, NOON)
        for start in range(0, JOBS, 500):
            ids = range(start, start + 500)
            await mongo.insert(
                "batches", [{"_id": f"batch {n}", "job_ids": [f"job {n}"], "at": NOON + n * SECOND} for n in ids]
            )
            await stores.requests.claim([Claim(f"key {n}", "hash", f"job {n}", NOON + n * SECOND) for n in ids])
            await mongo.insert("forgotten", [{"_id": f"note {n}", "turns": [[f"job {n}", 1]]} for n in ids])
            await mongo.insert(
                "dead_letters",
                [
                    {"_id": f"letter {n}", "subject": "s", "data": b"", "reason": "r", "at": now - 20 * n * SECOND}
                    for n in ids
                ],
            )
        yield stores


LATER = NOON + 500 * SECOND
"""Eleven jobs were created from `LATER` to ten seconds after it."""

TEN_LATER = LATER + 10 * SECOND
SOME = ["job 1", "job 2", "job 3"]
RARE = Filters(kind="greet", status=Status.FAILED, label="a label")
OF_KEY = Filters(key="object 500")
CLAIM = Claim("key 1", "hash", "job 1", NOON)

READS: dict[str, tuple[Callable[[Everything], Awaitable[object]], int]] = {
    "page of a list": (lambda all_: all_.listing.created_between(LATER, TEN_LATER, 50), 11),
    "page of what is rare": (lambda all_: all_.listing.search(LATER, TEN_LATER, RARE, "greet", 50), 11),
    "page of a key of any kind": (lambda all_: all_.listing.search(LATER, TEN_LATER, OF_KEY, "sleep", 50), 11),
    "page of a key": (lambda all_: all_.listing.of_place("object 900", None, 50), 1),
    "page of a key with many runs": (lambda all_: all_.listing.of_place("many runs", 150, 5), 5),
    "next page of a key": (lambda all_: all_.listing.of_place("many runs", 3, 50), 3),
    "list of a batch": (lambda all_: all_.listing.members("batch 7"), 1),
    "jobs of a page": (lambda all_: all_.listing.records(SOME), 3),
    "batch": (lambda all_: all_.batches.get("batch 7"), 1),
    "outcome of a batch": (lambda all_: all_.batches.outcome("batch 7"), 1),
    "kept outcome of a batch": (lambda all_: all_.batches.keep_outcome("batch 7", {}), 1),
    "statuses of a batch": (lambda all_: all_.batches.statuses(SOME), 3),
    "counts of a batch": (lambda all_: all_.batches.counts(SOME), 3),
    "outcomes of a batch": (lambda all_: all_.batches.records(SOME), 3),
    "repeated batch": (lambda all_: all_.batches.keep(Batch("batch 7", SOME), NOON), 1),
    "lives": (lambda all_: all_.overview.lived(LATER, TEN_LATER, 50), 11),
    "unfinished jobs": (lambda all_: all_.overview.unfinished(1_000), JOBS // 100),
    "unfinished jobs of kinds": (lambda all_: all_.overview.unfinished_of({"a", "sleep"}, "sleep", 9), JOBS // 100),
    "dead letters": (lambda all_: all_.dead_letters.latest(50), 8 * 50),
    "repeated request": (lambda all_: all_.requests.claim([CLAIM]), 1),
    "waiters": (lambda all_: all_.statuses.ended(SOME), 3),
    "old jobs": (lambda all_: all_.retention.old(LATER, TEN_LATER, 50), 11),
    "latest numbers": (lambda all_: all_.retention.latest_numbers(["object 900", "object 901"]), 2),
    "mark": (lambda all_: all_.retention.mark(SOME, NOON), 3),
    "seal": (lambda all_: all_.retention.seal(SOME, NOON), 3),
    "delete": (lambda all_: all_.retention.delete(SOME), 3),
    "existing": (lambda all_: all_.retention.existing(SOME), 3),
    "drop notes": (lambda all_: all_.retention.drop_notes(["note 1"]), 1),
    "forget requests": (lambda all_: all_.retention.forget_requests(NOON + 10 * SECOND), 10),
    "kinds": (lambda all_: all_.kinds.load(["a:1", "b:1"]), 0),
    "served kinds": (lambda all_: all_.kinds.touch(["a:1", "b:1"], NOON), 0),
}
"""What is asked, and how many documents any of its queries may look at."""


async def test_every_query_of_v1_uses_an_index(
    everything: Everything, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of lists, batches, overview, dead letters, requests, retention: it looks at what it returns, no further."""
    sent = listen(everything, monkeypatch)
    wrong = {}
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        for name, (ask, most) in READS.items():
            sent.clear()
            await ask(everything)
            found = [plan for command in sent for plan in explain(client.get_default_database(), command)]
            if not found or any("COLLSCAN" in plan or examined > most for plan, examined in found):
                wrong[name] = found
    assert wrong == {}


async def test_queries_without_a_filter_are_limited(everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that read a small collection as a whole."""
    sent = listen(everything, monkeypatch)
    assert len(await everything.retention.notes(5)) == 5
    await everything.kinds.seen()
    assert [command["limit"] for command in sent] == [5, KNOWN_MAX]


async def test_no_query_is_left_out(everything: Everything) -> None:
    """A method of these stores has a row above, or one of the other tests sends it."""
    explained = {name for ask, _ in READS.values() for name in ask.__code__.co_names}
    elsewhere = {"seen", "notes", "forget", "note", "announce"}
    stores = [store for store in vars(everything).values() if not isinstance(store, Mongo | JobStore)]
    methods = {name for store in stores for name in vars(type(store)) if not name.startswith("_")}
    assert methods - explained == elsewhere
