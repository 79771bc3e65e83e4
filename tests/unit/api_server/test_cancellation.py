"""Cancelling jobs, on fakes."""

import asyncio
from collections.abc import Callable

import pytest

from hasty.jobs import Status
from hasty.server.messaging.topology import JOB_CANCEL
from hasty.server.mongo import StoreUnavailable
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


async def test_cancelled_job_is_published_as_that(world: World, v1: V1World) -> None:
    """Job-servers are told at once, and by the next sweep for certain."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    await v1.server.outbox.finish()
    record = await v1.v1.cancellation.cancel(job_id)

    assert record is not None
    assert (record.job.status, record.job.cancel_at) == (Status.PROCESSING, world.time)
    assert v1.published == [[job_id]]
    assert v1.swept == 1
    await v1.server.outbox.sweep()
    assert len(world.broker.take(JOB_CANCEL, 10)) == 1


async def test_ended_job_stays_as_it_is(world: World, v1: V1World) -> None:
    """A cancel that comes after the outcome changes nothing, and tells nobody."""
    job_id = await job_id_of(v1.submission.submit(asked(GREET, name="Ada")))
    await world.end(v1, job_id)
    record = await v1.v1.cancellation.cancel(job_id)

    assert record is not None
    assert (record.job.status, record.job.cancel_at) == (Status.FINISHED, None)
    assert (v1.published, v1.swept) == ([], 0)
    assert await v1.v1.cancellation.cancel("no such job") is None


async def test_cancels_that_come_together_share_one_update(world: World, v1: V1World) -> None:
    """A batch instead of one call per job."""
    ids = await asyncio.gather(*(job_id_of(v1.submission.submit(asked(GREET, name="Ada"))) for _ in range(50)))
    calls: list[str] = []
    world.store.fate = _noted(calls)
    await asyncio.gather(*map(v1.v1.cancellation.cancel, ids))
    assert calls.count("request_cancel") == 1
    assert [sorted(ids) for ids in v1.published] == [sorted(ids)]


async def test_cancel_without_a_database_is_unavailable(world: World, v1: V1World) -> None:
    """Whether it was noted is unknown: the caller asks again."""
    world.store.fate = lambda _: Fate.LOST
    with pytest.raises(StoreUnavailable):
        await v1.v1.cancellation.cancel("a job")


def _noted(calls: list[str]) -> Callable[[str], Fate]:
    def fate(method: str) -> Fate:
        calls.append(method)
        return Fate.STORED

    return fate
