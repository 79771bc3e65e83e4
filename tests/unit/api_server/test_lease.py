"""The lease: who publishes a new job when its api-server does not, on fakes that fail on demand."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from api_server.domain import Lease
from api_server.lease import LEASE, RENEW_EVERY
from hasty.ids import new_job_id
from hasty.jobs import Job
from hasty.server.messaging.topology import JOB_CREATED
from hasty.server.mongo import StoreUnavailable
from tests.eventually import eventually
from tests.fakes import Fate
from tests.unit.api_server.world import OVERDUE, ApiServer, World, die_before_publishing


async def test_jobs_of_a_dead_api_server_are_taken_over(world: World, api_server: ApiServer) -> None:
    """When it has not renewed its lease for long, and no sooner."""
    job_id = await die_before_publishing(world, "x")
    assert len(world.leases) == 1

    world.pass_time(LEASE)
    await api_server.lease.keep()
    assert await api_server.outbox.sweep() == 0
    world.pass_time(RENEW_EVERY)
    await api_server.lease.keep()
    assert await api_server.outbox.sweep() == 1

    assert world.published() == [job_id]
    assert len(world.leases) == 1, "its own"


async def test_renewed_lease_is_not_taken_over(world: World, api_server: ApiServer) -> None:
    """However long it takes to publish; and what it has confirmed is nobody's business any more."""
    confirmed = await api_server.submit("confirmed")
    await eventually(lambda: world.broker.unfinished(JOB_CREATED))
    for _ in range(5):
        world.pass_time(RENEW_EVERY)
        await api_server.lease.keep()
    world.broker.fate = lambda _: Fate.LOST
    unconfirmed = await api_server.submit("unconfirmed")
    other = world.api_server()
    for _ in range(5):
        await other.lease.keep()
        world.pass_time(RENEW_EVERY)
        # As the keeper does it, but for the last step of the dispatch, which has not come round yet.
        await api_server.lease.renew()
    assert await other.outbox.sweep() == 0

    world.pass_time(2 * LEASE)
    with capture_logs() as logs:
        await other.lease.keep()

    assert [(log["event"], log["jobs"]) for log in logs] == [("lease_taken_over", 1)]
    jobs = await world.store.get([confirmed, unconfirmed])
    assert [jobs[confirmed].dispatches, jobs[unconfirmed].dispatches] == [1, 0]


async def test_expired_lease_is_renewed_before_jobs_are_stored(world: World, api_server: ApiServer) -> None:
    """Others have taken its jobs over meanwhile."""
    await api_server.submit("x")
    world.pass_time(2 * LEASE)
    await world.api_server().lease.keep()
    assert len(world.leases) == 1

    await api_server.submit("y")

    assert len(world.leases) == 2


async def test_lease_is_renewed_after_the_clock_is_set_back(world: World, api_server: ApiServer) -> None:
    """A lease of the future would never be abandoned."""
    await api_server.lease.keep()
    world.pass_time(timedelta(minutes=-5))

    await api_server.lease.keep()

    assert [lease.renewed_at for lease in world.leases.values()] == [world.time]


async def test_watermark_covers_jobs_after_the_clock_is_set_back(world: World, api_server: ApiServer) -> None:
    """What is stored next would be overdue before what is on its way already."""
    world.broker.fate = lambda _: Fate.LOST
    await api_server.submit("x")
    world.pass_time(timedelta(minutes=-1))

    await api_server.lease.keep()

    (lease,) = world.leases.values()
    assert lease.watermark < world.time + OVERDUE


async def test_job_after_the_end_gets_a_new_lease(world: World, api_server: ApiServer) -> None:
    """A request whose caller has gone may be the last to be worked on, while the answer is still under way."""
    await api_server.submit("x")
    answered = asyncio.Event()
    delete = world.lease_store.delete

    async def delete_slowly(lease: Lease) -> None:
        await delete(lease)
        await answered.wait()

    world.lease_store.delete = delete_slowly  # type: ignore[method-assign]
    ending = asyncio.create_task(api_server.outbox.finish())
    await eventually(lambda: not world.leases)

    await api_server.submit("y")

    assert len(world.leases) == 1
    answered.set()
    await ending


async def test_overdue_job_keeps_its_dispatch_count(world: World, api_server: ApiServer) -> None:
    """Its next dispatch must get through: the broker may have forgotten the first, and the work may be done."""
    job_id = await api_server.submit("x")
    await api_server.lease.keep()
    world.pass_time(OVERDUE)

    await world.api_server().lease.keep()

    assert (await world.store.get([job_id]))[job_id].dispatches == 1


async def test_restarted_api_server_has_its_own_lease(world: World) -> None:
    """A container that is started again has the name and the process id it had, and must not renew what it left."""
    lives = [world.api_server(name="host-1") for _ in range(2)]
    for life in lives:
        await life.lease.keep()

    assert len(world.leases) == 2
    assert all(owner.startswith("host-1-") for owner in world.leases)


async def test_clean_stop_leaves_no_lease(world: World, api_server: ApiServer) -> None:
    """There is nothing to be taken over."""
    await api_server.submit("x")
    await api_server.lease.keep()

    await api_server.outbox.finish()

    assert world.leases == {}


@pytest.mark.parametrize("comes", ["at once", "late"])
async def test_unanswered_insert_is_dispatched_if_it_arrives(world: World, comes: str) -> None:
    """Nobody has published it; also when the command was still under way when it was looked for."""
    job_id = new_job_id("x")
    api_server = world.api_server(lambda _key: job_id)
    fate = {"at once": Fate.UNANSWERED, "late": Fate.LOST}[comes]
    world.store.fate = lambda method: fate if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await api_server.submit("x")
    await api_server.lease.keep()
    world.store.fate = lambda _: Fate.STORED
    if comes == "late":
        await world.store.insert([Job(job_id, "x", 1, world.time, dispatches=1)], world.time + OVERDUE, "its")

    await api_server.lease.keep()

    assert await api_server.outbox.sweep() == 1
    await api_server.lease.keep()
    assert await api_server.outbox.sweep() == 0, "it is not asked for again"
    assert world.published() == [job_id]


async def test_making_jobs_due_is_retried_after_an_outage(world: World, api_server: ApiServer) -> None:
    """When the database is back."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await api_server.submit("x")
    world.store.up = False
    with pytest.raises(StoreUnavailable):
        await api_server.outbox.finish()
    world.store.up = True
    world.broker.fate = lambda _: Fate.STORED

    await api_server.lease.keep()

    assert await api_server.outbox.sweep() == 1
    assert world.published() == [job_id]
