"""The outbox: what is stored is published, on fakes that fail on demand."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from api_server.domain import OVERDUE_GROWS_UP_TO
from api_server.lease import LEASE, LeaseKeeper
from api_server.sweep_claim import CLAIM, SweepClaim
from hasty.jobs import Status
from hasty.server.messaging.events import decode_turn, dispatch_id
from hasty.server.messaging.topology import JOB_CREATED
from hasty.server.mongo import StoreUnavailable
from tests.eventually import eventually
from tests.fakes import Fate
from tests.fakes.broker import DUPLICATE_WINDOW_S
from tests.unit.api_server.world import OVERDUE, ApiServer, World, ending


async def test_unpublished_job_is_dispatched_by_another_api_server(world: World, api_server: ApiServer) -> None:
    """Its own api-server knows of it, and makes it due."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await api_server.submit("x")
    other = world.api_server()
    assert await other.outbox.sweep() == 0
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.STORED

    assert await other.outbox.sweep() == 1

    assert world.published() == [job_id]


async def test_unanswered_publish_is_repeated_with_the_same_id(world: World, api_server: ApiServer) -> None:
    """The broker drops the repetition."""
    world.broker.fate = lambda _: Fate.UNANSWERED
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.STORED

    assert await api_server.outbox.sweep() == 1

    assert world.published() == [job_id]


def first_dispatches_say_again(world: World) -> list[bool]:
    """Whether they tell that there may have been one before, under the same number; the broker forgets their ids."""
    deliveries = world.broker.take(JOB_CREATED, 100)
    for delivery in deliveries:
        world.broker.settle(delivery)
    world.pass_time(timedelta(seconds=DUPLICATE_WINDOW_S))
    turns = [decode_turn(delivery.subject, delivery.data) for delivery in deliveries]
    assert [delivery.message_id for delivery in deliveries] == [dispatch_id(turn.turn_id, 1) for turn in turns]
    return [turn.again for turn in turns]


async def test_repeated_first_publish_tells_that_it_may_be_one(world: World, api_server: ApiServer) -> None:
    """The first one got no answer, ran, and was forgotten by the broker."""
    world.broker.fate = lambda _: Fate.UNANSWERED
    await api_server.submit("x")
    await api_server.outbox.finish()
    assert first_dispatches_say_again(world) == [False]
    world.broker.fate = lambda _: Fate.STORED

    assert await world.api_server().outbox.sweep() == 1

    assert first_dispatches_say_again(world) == [True]


async def test_repeated_publish_of_a_sweep_tells_that_it_may_be_one(world: World, api_server: ApiServer) -> None:
    """As that of a new job, however often it is repeated; one that was never published says nothing."""
    world.broker.up = False
    await api_server.submit("x")
    world.broker.up = True
    world.broker.fate = lambda _: Fate.UNANSWERED
    for expected in ([False], [True], [True]):
        assert await api_server.outbox.sweep() == 0
        assert first_dispatches_say_again(world) == expected
    world.broker.fate = lambda _: Fate.STORED

    await api_server.outbox.sweep()
    assert first_dispatches_say_again(world) == [True]
    await api_server.outbox.finish()
    assert world.lease_store.sweeps is None


@pytest.mark.parametrize("gives_back", [False, True])
async def test_sweeps_taken_over_tell_that_there_may_have_been_others(
    world: World, api_server: ApiServer, *, gives_back: bool
) -> None:
    """Of an api-server that was lost, nobody knows what it published; one that left in order had finished."""
    assert await api_server.outbox.sweep_claim.held()
    if gives_back:
        await api_server.outbox.finish()
    world.broker.up = False
    other = world.api_server()
    await other.submit("x")
    world.broker.up = True
    world.pass_time(CLAIM)

    assert await other.outbox.sweep_claim.held()
    assert await other.outbox.sweep() == 1
    world.broker.up = False
    await other.submit("y")
    world.broker.up = True
    assert await other.outbox.sweep() == 1

    assert first_dispatches_say_again(world) == [not gives_back, False]


@pytest.mark.parametrize("claim", [LeaseKeeper, SweepClaim])
async def test_publish_after_standing_still_says_again(
    world: World, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, claim: type
) -> None:
    """Meanwhile another api-server has taken over and published, and the broker may have forgotten it."""
    monkeypatch.setattr(claim, "may_have_run_out", True)
    world.broker.up = claim is LeaseKeeper
    await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.up = True
    await api_server.outbox.sweep()

    assert first_dispatches_say_again(world) == [True]


async def test_claims_run_out_by_the_own_clock(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which goes on while the process stands still, and needs no database."""
    claims = api_server.lease, api_server.outbox.sweep_claim
    await api_server.lease.renew()
    assert await api_server.outbox.sweep_claim.held()
    assert [claim.may_have_run_out for claim in claims] == [False, False]

    loop = asyncio.get_running_loop()
    after = loop.time() + max(LEASE, CLAIM).total_seconds()
    monkeypatch.setattr(loop, "time", lambda: after)

    assert [claim.may_have_run_out for claim in claims] == [True, True]


async def test_sweeps_with_an_unanswered_publish_are_not_given_back(world: World, api_server: ApiServer) -> None:
    """Whoever has them next is to know."""
    world.broker.up = False
    await api_server.submit("x")
    world.broker.up = True
    world.broker.fate = lambda _: Fate.UNANSWERED
    assert await api_server.outbox.sweep_claim.held()
    assert await api_server.outbox.sweep() == 0

    await api_server.outbox.finish()

    assert world.lease_store.sweeps is not None


async def test_concurrent_sweeps_dispatch_once(world: World, api_server: ApiServer) -> None:
    """Both publish under the same id."""
    world.broker.up = False
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.up = True

    await asyncio.gather(api_server.outbox.sweep(), world.api_server().outbox.sweep())

    assert world.published() == [job_id]


async def test_jobs_are_accepted_while_the_broker_is_down(world: World, api_server: ApiServer) -> None:
    """Nothing is looked for meanwhile; when it is back, they leave at once."""
    world.broker.up = False
    job_ids = [await api_server.submit(str(number)) for number in range(5)]
    await api_server.outbox.finish()
    assert await api_server.outbox.sweep() == 0

    world.broker.up = True
    assert await api_server.outbox.sweep() == 5

    assert world.published() == job_ids


async def test_job_without_an_ending_is_dispatched_again(world: World, api_server: ApiServer) -> None:
    """Each time under a new id, so that it gets through, after a growing but bounded wait."""
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    assert world.published() == [job_id]

    waits = []
    for _ in range(6):
        begun = world.time
        while not await api_server.outbox.sweep():
            world.pass_time(timedelta(seconds=10))
        assert world.published() == [job_id]
        waits.append(world.time - begun)

    assert waits[0] >= OVERDUE
    assert waits == sorted(waits)
    assert waits[-1] <= OVERDUE_GROWS_UP_TO * OVERDUE


async def test_running_job_is_never_dispatched_as_new(world: World, api_server: ApiServer) -> None:
    """Its publish got no answer, and its message's id is forgotten while it runs."""
    world.broker.fate = lambda _: Fate.UNANSWERED
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.STORED
    (first,) = world.broker.take(JOB_CREATED, 10)
    world.broker.settle(first)
    world.running.add((job_id, 1))
    assert await api_server.outbox.sweep() == 1

    world.running.clear()
    world.pass_time(OVERDUE)
    assert await api_server.outbox.sweep() == 1

    (again,) = world.broker.take(JOB_CREATED, 10)
    assert (first.message_id, again.message_id) == (dispatch_id(job_id, 1), dispatch_id(job_id, 3))


async def test_running_job_is_left_by_a_lost_api_server(world: World) -> None:
    """Whoever takes its lease over does not have it dispatched."""
    lost, other = world.api_server(), world.api_server()
    job_id = await lost.submit("x")
    await eventually(lambda: world.broker.unfinished(JOB_CREATED) == 1)
    world.pass_time(OVERDUE)
    world.running.add((job_id, 1))
    assert await other.outbox.sweep() == 1

    world.running.clear()
    world.pass_time(timedelta(seconds=1))
    await other.lease.keep()

    assert await other.outbox.sweep() == 0


async def test_lost_dispatch_mark_repeats_the_same_dispatch(world: World, api_server: ApiServer) -> None:
    """The next sweep publishes under the same id."""
    world.broker.up = False
    job_id = await api_server.submit("x")
    world.broker.up = True
    world.store.fate = lambda method: Fate.LOST if method == "mark_dispatched" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await api_server.outbox.sweep()
    world.store.fate = lambda _: Fate.STORED

    assert await world.api_server().outbox.sweep() == 1

    assert world.published() == [job_id]


async def test_unfinished_jobs_are_dispatched_to_a_new_stream(world: World, api_server: ApiServer) -> None:
    """Those that have ended do not."""
    job_ids = [await api_server.submit(str(number)) for number in range(3)]
    await api_server.outbox.finish()
    await world.apply(api_server, Status.FINISHED, ending(job_ids[0]))
    world.broker.wipe()
    world.broker.ensure(50)

    await api_server.outbox.on_stream_recreated()
    assert await api_server.outbox.sweep() == 2

    assert sorted(world.published()) == sorted(job_ids[1:])


@pytest.mark.parametrize(("jobs", "level"), [(0, "info"), (2, "warning")])
async def test_new_stream_is_a_warning_only_with_unfinished_jobs(api_server: ApiServer, jobs: int, level: str) -> None:
    """The first start of all is no reason to worry anybody."""
    for number in range(jobs):
        await api_server.submit(str(number))
    await api_server.outbox.finish()

    with capture_logs() as logs:
        await api_server.outbox.on_stream_recreated()

    assert logs == [
        {
            "event": "stream_is_new",
            "log_level": level,
            "logger_name": "api_server.outbox",
            "unfinished_jobs_due": jobs,
        }
    ]


async def test_sweeps_continue_after_an_outage(world: World, api_server: ApiServer) -> None:
    """It goes on by itself when the database is back."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.STORED
    world.store.up = False

    async with asyncio.TaskGroup() as group:
        dispatcher = group.create_task(api_server.outbox.run_sweeps(), name="dispatcher")
        await asyncio.sleep(0)
        world.store.up = True
        api_server.outbox.sweep_soon()
        await eventually(lambda: world.published() == [job_id])
        dispatcher.cancel()
