"""What is forgotten and what must stay, on a real server."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from api_server.domain import Batch, Claim, Note
from api_server.retention import MARKED_FOR, Retention
from api_server.store import CALL_TIMEOUT_S, DATABASE, INDEXES
from api_server.store.batches import BatchStore
from api_server.store.requests import RequestStore
from api_server.store.retention import RetentionStore
from hasty.jobs import Ending, Job, Report, Status, Task, Turn, place_of
from hasty.server.mongo import Mongo
from job_server.forgetting import Forgetting
from tests.store.conftest import RealEndings, RealStore
from tests.store.jobs import NOON, OWNER, SECOND

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT_FOR = timedelta(days=30)
COOLDOWN = timedelta(days=40)
"""Of keys; longer than jobs are kept."""


class World:
    """An api-server that forgets, a job-server that answers, and what they keep."""

    def __init__(self, mongo: Mongo, endings: RealEndings) -> None:
        self.jobs = RealStore(mongo)
        self.endings = endings
        self.store = RetentionStore(mongo, self.jobs)
        self.batches = BatchStore(mongo, self.jobs)
        self.requests = RequestStore(mongo)
        self.now = NOON
        self.chosen = True
        self.published: list[dict[str, object]] = []
        self.served = True
        self.retention = self.restarted()

    def restarted(self, step_max: int = 500) -> Retention:
        """An api-server that remembers nothing of the one before."""
        return Retention(
            self.store,
            now=lambda: self.now,
            keep_for=KEPT_FOR,
            is_chosen=self._is_chosen,
            cooldown_of=lambda _kind: COOLDOWN,
            publish=self._publish,
            step_max=step_max,
            answered_within_s=0.05,
        )

    async def forget(self, *, later: timedelta = timedelta(0)) -> int:
        """Forget once, so much later than the time before."""
        self.now += later
        return await self.retention.forget()

    async def made(
        self, created_at: datetime, *, key: str | None = None, run: int = 1, ended: bool = True, turns: int = 1
    ) -> Job:
        """Make a job of a kind that ended at once, or did not end."""
        job_id = str(uuid.uuid4())
        job = Job(job_id, place_of("greet", key, job_id), run, created_at, dispatches=1, task=Task("greet", "{}"))
        assert not await self.jobs.insert([job], created_at, OWNER)
        for number in range(1, turns + 1):
            again = number < turns
            status = Status.PROCESSING if again else Status.FINISHED
            turn = Turn(job_id, job.object_id, int(created_at.timestamp()), number, job.task)
            if ended:
                ending = Ending(turn, status, 1, report=Report("w", "v", 0, 1, delay_s=float(again)))
                assert not await self.endings.record([ending])
                await self.jobs.apply_reports([ending], created_at)
        return job

    async def left(self, *jobs: Job) -> list[bool]:
        """Which of these jobs exist."""
        found = await self.jobs.get([job.job_id for job in jobs])
        return [job.job_id in found for job in jobs]

    async def _is_chosen(self) -> bool:
        return self.chosen

    async def _publish(self, data: bytes) -> None:
        self.published.append(json.loads(data))
        if self.served:
            job_server = Forgetting(self.endings, self._hear)
            job_server.hear(data)
            await job_server.forget_next()

    async def _hear(self, data: bytes) -> None:
        self.retention.hear(data)


@pytest_asyncio.fixture(loop_scope="session")
async def world(url: str, real_endings: RealEndings) -> AsyncIterator[World]:
    """Both databases, empty."""
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        yield World(mongo, real_endings)


OLD = NOON - KEPT_FOR - SECOND
RECENT = NOON - KEPT_FOR + SECOND


async def test_job_is_forgotten_when_it_ended_long_ago(world: World) -> None:
    """With the endings of all its turns; what ended later, or not yet, stays."""
    old, recent, unfinished = [
        await world.made(OLD, turns=3),
        await world.made(RECENT),
        await world.made(OLD, ended=False),
    ]
    turns = [old.job_id, f"{old.job_id}:2", f"{old.job_id}:3", recent.job_id]
    await world.endings.count_runs(turns)

    assert await world.forget() == 1

    assert await world.left(old, recent, unfinished) == [False, True, True]
    assert list(await world.endings.recorded(turns)) == [recent.job_id]
    assert await world.endings.count_runs(turns) == {**dict.fromkeys(turns[:3], 0), recent.job_id: 1}


async def test_latest_run_stays_within_its_cooldown(world: World) -> None:
    """Earlier runs of its key go at once."""
    first, second = await world.made(OLD - SECOND, key="k"), await world.made(OLD, key="k", run=2)

    assert await world.forget() == 1
    assert await world.left(first, second) == [False, True]
    for _ in range(3):
        assert await world.forget(later=MARKED_FOR) == 0

    assert await world.forget(later=COOLDOWN - KEPT_FOR) == 0, "it is marked only"
    assert await world.forget(later=MARKED_FOR - SECOND) == 0
    assert await world.forget(later=SECOND) == 1
    assert await world.left(second) == [False]


async def test_run_that_was_looked_up_stays(world: World) -> None:
    """Whoever looked it up decides on it; the next run of the key gets the next number."""
    world.now += COOLDOWN
    job = await world.made(OLD, key="k", run=7)
    assert await world.forget() == 0

    assert (await world.jobs.latest_runs([job.object_id]))[job.object_id].number == 7

    assert await world.store.seal([job.job_id], world.now) == [], "its mark is gone"
    assert await world.forget(later=MARKED_FOR) == 0, "it is marked anew"
    assert await world.left(job) == [True]
    assert await world.forget(later=MARKED_FOR) == 1


async def test_sealed_run_is_gone_for_who_looks_it_up(world: World) -> None:
    """An api-server that died between sealing and deleting leaves no run that one sees and another deletes."""
    world.now += COOLDOWN
    job = await world.made(OLD, key="k", run=7)
    await world.store.mark([job.job_id], world.now - MARKED_FOR)
    assert await world.store.seal([job.job_id], world.now - MARKED_FOR) == [job.job_id]

    assert await world.jobs.latest_runs([job.object_id]) == {}

    assert await world.left(job) == [False]
    assert await world.store.seal([job.job_id], world.now) == []


async def test_many_jobs_of_one_moment_are_forgotten(world: World) -> None:
    """More than one step takes, and steps that end within a millisecond."""
    jobs = [await world.made(OLD, turns=1) for _ in range(23)]

    world.retention = world.restarted(step_max=5)

    assert await world.forget() == 23
    assert not any(await world.left(*jobs))


async def test_notes_are_published_until_answered(world: World) -> None:
    """Also by another api-server, which knows of no note but from the database."""
    job = await world.made(OLD)
    world.served = False
    assert await world.forget() == 1
    assert await world.endings.recorded([job.job_id])

    world.served = True
    world.retention = world.restarted()
    assert await world.forget() == 0

    assert not await world.endings.recorded([job.job_id])
    assert len({str(note) for note in world.published}) == 1
    world.published.clear()
    await world.forget()
    assert world.published == []


async def test_job_that_was_not_deleted_keeps_its_ending(world: World) -> None:
    """A note is older than what it announces."""
    job = await world.made(RECENT)
    await world.store.note(Note("abc", {job.job_id: 1}))

    await world.forget()

    assert await world.endings.recorded([job.job_id])
    assert await world.store.notes(9) == []


async def test_batches_and_idempotency_keys_go_with_their_jobs(world: World) -> None:
    """And stay as long as one of them."""
    old, recent = await world.made(OLD), await world.made(RECENT)
    await world.batches.keep(Batch("gone", [old.job_id]), OLD)
    await world.batches.keep(Batch("half gone", [old.job_id, recent.job_id]), OLD)
    claims = [Claim("of old", "h", old.job_id, OLD), Claim("of recent", "h", recent.job_id, OLD)]
    claims += [Claim("a batch", "h", "gone", OLD), Claim("b batch", "h", "half gone", OLD)]
    claims += [Claim("under way", "h", "to be made", world.now)]
    await world.requests.claim(claims)

    await world.forget()

    assert await world.batches.get("gone") is None
    assert await world.batches.get("half gone") is not None
    repeated = await world.requests.claim([Claim(claim.key, "other", "another", world.now) for claim in claims])
    assert [key for key, claim in repeated.items() if claim.body_hash == "h"] == ["of recent", "b batch", "under way"]


async def test_only_the_chosen_api_server_forgets(world: World) -> None:
    """Others would delete the same."""
    job = await world.made(OLD)
    world.chosen = False
    await world.retention.once()
    assert await world.left(job) == [True]
    world.chosen = True
    await world.retention.once()
    assert await world.left(job) == [False]
