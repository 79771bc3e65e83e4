"""Who waits for a job is woken by its outcome, whoever applied it."""

import asyncio
import json
import uuid
from dataclasses import replace

import pytest

from api_server import watch as module
from api_server.domain import JobRecord
from api_server.queries import Queries
from api_server.watch import AppliedPublisher, Watch, applied_ids
from hasty.jobs import Status
from hasty.server.runtime.batching import Overloaded
from tests.eventually import eventually
from tests.fakes import Fate
from tests.unit.api_server.test_submission import asked, job_id_of
from tests.unit.api_server.v1_world import GREET, V1World, World


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
async def v1(world: World) -> V1World:
    """An api-server in it, which knows a kind."""
    v1 = world.v1()
    await world.announced(v1, GREET)
    return v1


async def status_after(watch: Watch, job_id: str, wait_s: float = 5) -> Status:
    """The status with which waiting ends."""
    record = await watch.until_ended(job_id, wait_s)
    assert record is not None
    return record.job.status


async def test_waiter_is_woken_by_the_ending_applied_here(world: World, v1: V1World) -> None:
    """Long before the look that comes once a second."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(v1.watch.run())
        waiting = tasks.create_task(status_after(v1.watch, job_id))
        await eventually(lambda: len(v1.watch) == 1)
        await world.end(v1, job_id)
        async with asyncio.timeout(module.LOOK_EVERY_S / 2):
            assert await waiting is Status.FINISHED
        looking.cancel()
    assert len(v1.watch) == 0


async def test_waiter_is_woken_by_another_api_server(world: World, v1: V1World) -> None:
    """Also when its write is visible only a moment after the news of it."""
    other = world.v1()
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(v1.watch.run())
        waiting = tasks.create_task(status_after(v1.watch, job_id))
        await eventually(lambda: len(v1.watch) == 1)
        v1.watch.wake(applied_ids(json.dumps([job_id]).encode()))
        await eventually(lambda: v1.statuses.asked)
        await world.end(other, job_id)
        async with asyncio.timeout(module.LOOK_EVERY_S / 2):
            assert await waiting is Status.FINISHED
        looking.cancel()


async def test_lost_news_costs_a_second_and_never_the_answer(world: World, v1: V1World) -> None:
    """Once a second everybody is looked for, whatever was heard."""
    other = world.v1()
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(v1.watch.run())
        waiting = tasks.create_task(status_after(v1.watch, job_id))
        await eventually(lambda: len(v1.watch) == 1)
        await world.end(other, job_id)
        assert await waiting is Status.FINISHED
        looking.cancel()


async def test_ending_during_the_first_look_is_not_missed(world: World, v1: V1World) -> None:
    """Who waits is known before the job is read."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    reads = Queries(world.store)

    async def find(job_id: str, caller: str) -> JobRecord | None:
        record = await reads.record(job_id, caller)
        if world.store.jobs[job_id].status is Status.PROCESSING:
            await world.end(v1, job_id)
            watch.wake([job_id])
        return record

    watch = Watch(v1.statuses, find)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(watch.run())
        async with asyncio.timeout(module.LOOK_EVERY_S / 2):
            assert await status_after(watch, job_id) is Status.FINISHED
        looking.cancel()


async def test_wait_that_runs_out_shows_the_job_as_it_is(v1: V1World) -> None:
    """It is no error."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    assert await status_after(v1.watch, job_id, 0.05) is Status.PROCESSING
    assert await status_after(v1.watch, job_id, 0) is Status.PROCESSING
    assert await v1.watch.until_ended("no such job", 5) is None
    assert len(v1.watch) == 0


async def test_thousands_wait_with_few_questions(world: World, v1: V1World) -> None:
    """One look a second asks for all of them; each is woken when its turn comes."""
    one = world.store.jobs[await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))]
    ids = [str(uuid.uuid4()) for _ in range(1_200)]
    world.store.jobs |= {job_id: replace(one, job_id=job_id) for job_id in ids}
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(v1.watch.run())
        waiting = [tasks.create_task(status_after(v1.watch, job_id, 30)) for job_id in ids]
        await eventually(lambda: len(v1.watch) == 1_200)
        v1.statuses.asked.clear()
        await eventually(lambda: sum(v1.statuses.asked) >= 1_200)
        assert max(v1.statuses.asked) == module.LOOK_BATCH_MAX
        world.store.jobs |= {job_id: replace(world.store.jobs[job_id], status=Status.FINISHED) for job_id in ids}
        v1.watch.wake(ids)
        assert set(await asyncio.gather(*waiting)) == {Status.FINISHED}
        looking.cancel()


async def test_too_many_waiters_are_refused(world: World) -> None:
    """Those who wait already are not disturbed."""
    v1 = world.v1()
    await world.announced(v1, GREET)
    watch = Watch(v1.statuses, Queries(world.store).record, waiting_max=1)
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    waiting = asyncio.create_task(status_after(watch, job_id))
    await eventually(lambda: len(watch) == 1)

    with pytest.raises(Overloaded):
        await watch.until_ended(job_id, 5)
    assert await status_after(watch, job_id, 0) is Status.PROCESSING
    watch.close()
    await waiting


async def test_stopping_server_lets_nobody_wait(v1: V1World) -> None:
    """Everyone gets the job as it is, at once."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    waiting = asyncio.create_task(status_after(v1.watch, job_id, 60))
    await eventually(lambda: len(v1.watch) == 1)
    v1.watch.close()
    async with asyncio.timeout(1):
        assert await waiting is Status.PROCESSING
        assert await status_after(v1.watch, job_id, 60) is Status.PROCESSING


async def test_looking_survives_an_outage(world: World, v1: V1World) -> None:
    """Who waits meanwhile is woken when the database is back."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(v1.watch.run())
        waiting = tasks.create_task(status_after(v1.watch, job_id, 10))
        await eventually(lambda: len(v1.watch) == 1)
        world.store.fate = lambda method: Fate.LOST if method == "get" else Fate.STORED
        await eventually(lambda: v1.statuses.asked)
        await world.end(world.v1(), job_id)
        world.store.fate = lambda _: Fate.STORED
        assert await waiting is Status.FINISHED
        looking.cancel()


@pytest.mark.parametrize("data", [b"", b"{}", b'[1, null, "a"]', b"\xff"])
def test_malformed_news_is_ignored(data: bytes) -> None:
    """It must not stop what reads from the broker."""
    assert set(applied_ids(data)) <= {"a"}


async def test_applied_endings_are_published_in_batches() -> None:
    """One message for what was applied together."""
    published: list[list[str]] = []

    async def publish(data: bytes) -> None:
        published.append(json.loads(data))

    applied = AppliedPublisher(publish)
    applied.post([str(number) for number in range(300)])
    applied.post([str(number) for number in range(300, 500)])
    await eventually(lambda: sum(map(len, published)) == 500)
    assert len(published) == 1
