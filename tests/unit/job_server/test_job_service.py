"""What the job-server does, on fakes that fail on demand and with work that ends when the test says so."""

import asyncio
import uuid

import pytest

from hasty.jobs import Ending, Status, Turn
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import JOB_CREATED
from tests.eventually import eventually
from tests.fakes import Fate
from tests.unit.job_server.world import ACK_WAIT_S, Worker, World


async def test_job_is_run_recorded_published_and_acknowledged(world: World, worker: Worker) -> None:
    """In this order; until then it is held."""
    job_id = world.create()
    await worker.take()
    assert len(worker.service.held) == 1
    assert not world.at_rest

    worker.workshop.end(job_id, took_s=17)
    await worker.idle()

    assert world.store.endings[job_id] == Ending(Turn(job_id, "x", 1_767_355_200), Status.FINISHED, 17, 1)
    assert world.published() == [(job_id, "finished", 17)]
    assert world.at_rest
    assert worker.slots_freed == 1


async def test_cancelled_work_is_published_as_cancelled(world: World, worker: Worker) -> None:
    """On its own subject."""
    job_id = world.create()
    await worker.take()

    worker.workshop.end(job_id, Status.CANCELLED, 46)
    await worker.idle()

    assert world.published() == [(job_id, "cancelled", 46)]


async def test_no_more_jobs_are_taken_than_there_are_free_slots(world: World) -> None:
    """A place is free again when its job is acknowledged."""
    worker = world.worker(concurrency=2)
    job_ids = [world.create() for _ in range(5)]

    await worker.take()
    await worker.take()
    assert len(worker.service.held) == 2
    assert worker.service.free_slots == 0

    worker.workshop.end(job_ids[0])
    await worker.idle()
    assert worker.service.free_slots == 1


async def test_recorded_ending_is_published_again(world: World, worker: Worker) -> None:
    """The work is not done again, whoever did it and however the worker before ended."""
    job_id = world.create()
    await world.store.record([Ending(Turn(job_id, "x", 1), Status.CANCELLED, 46, 1)])

    await worker.take()
    await worker.idle()

    assert worker.workshop.begun == {}
    assert world.published() == [(job_id, "cancelled", 46)]
    assert world.at_rest


async def test_thawed_worker_publishes_the_recorded_ending(world: World, worker: Worker) -> None:
    """It was frozen, its job went to another, and it ends all the same: one outcome, told by both."""
    zombie, heir = worker, world.worker()
    job_id = world.create()
    await zombie.take()
    world.seconds += ACK_WAIT_S + 1
    await heir.take()
    heir.workshop.end(job_id, took_s=17)
    await heir.idle()

    zombie.workshop.end(job_id, Status.CANCELLED, 46)
    await zombie.idle()

    assert world.published() == [(job_id, "finished", 17)] * 2
    assert len(world.store.endings) == 1
    assert world.at_rest


async def test_job_delivered_twice_to_one_worker_runs_once(world: World, worker: Worker) -> None:
    """Both deliveries are acknowledged at its end."""
    job_id = world.create()
    world.create(job_id)
    await worker.take()
    world.seconds += ACK_WAIT_S + 1
    assert len(await worker.take()) == 2

    worker.workshop.end(job_id)
    await worker.idle()

    assert worker.workshop.begun[job_id] == 1
    assert world.at_rest
    assert len(world.published()) == 1


async def test_heartbeats_prevent_redelivery(world: World, worker: Worker) -> None:
    """Nobody else gets it, however long it takes."""
    world.create()
    await worker.take()

    for _ in range(10):
        world.seconds += ACK_WAIT_S / 3
        await worker.service.heartbeat.send()

    assert await world.worker().take() == []


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_ending_waits_for_the_database(world: World, worker: Worker, fate: Fate) -> None:
    """It stays held meanwhile, and is recorded once; nothing is told before it is recorded."""
    job_id = world.create()
    await worker.take()
    world.store.fate = lambda method: fate if method == "record" else Fate.STORED
    worker.workshop.end(job_id, took_s=17)
    await asyncio.sleep(0)
    assert world.published() == []
    assert len(worker.service.held) == 1

    world.store.fate = lambda _: Fate.STORED
    await worker.idle()

    assert world.published() == [(job_id, "finished", 17)]
    assert world.store.endings[job_id].sleep_time_used == 17
    assert world.at_rest


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_ending_is_published_until_the_broker_confirms(world: World, worker: Worker, fate: Fate) -> None:
    """It may be told twice; it is acknowledged only when it was told for certain."""
    job_id = world.create()
    await worker.take()
    world.broker.fate = lambda _: fate
    worker.workshop.end(job_id, took_s=17)
    await eventually(lambda: job_id in world.store.endings)
    assert not world.at_rest

    world.broker.fate = lambda _: Fate.STORED
    await worker.idle()

    assert set(world.published()) == {(job_id, "finished", 17)}
    assert world.at_rest


async def test_malformed_message_becomes_a_dead_letter(world: World, worker: Worker) -> None:
    """It never comes again, and the job beside it is begun."""
    world.broker.store(Outgoing(Subject.CREATED.value, b"\xff"))
    job_id = world.create()
    world.broker.store(Outgoing(Subject.CREATED.value, b"x" * 100_000))

    await worker.take()

    assert list(worker.workshop.under_way) == [job_id]
    assert sorted(len(letter.data) for letter in world.store.dead.values()) == [1, 64 * 1024]
    assert world.broker.unfinished(JOB_CREATED) == 1


async def test_jobs_are_handed_back_while_the_database_is_down(world: World, worker: Worker) -> None:
    """None is begun and none is lost, the malformed one included."""
    job_id = world.create()
    world.broker.store(Outgoing(Subject.CREATED.value, b"malformed"))
    world.store.up = False
    await worker.take()
    assert len(worker.service.held) == 0
    assert not world.at_rest
    assert await worker.take() == []

    world.store.up = True
    world.seconds += 2
    await worker.take()

    assert list(worker.workshop.under_way) == [job_id]
    assert len(world.store.dead) == 1


async def test_stopping_worker_finishes_jobs_within_its_grace(world: World, worker: Worker) -> None:
    """Nothing new is taken meanwhile."""
    job_id = world.create()
    await worker.take()
    ending = asyncio.create_task(worker.service.finish_or(grace_s=10))
    await asyncio.sleep(0)
    assert worker.service.free_slots == 0

    worker.workshop.end(job_id)
    await ending

    assert world.at_rest
    assert world.published() == [(job_id, "finished", 20)]


async def test_stopping_worker_hands_back_what_is_left(world: World, worker: Worker) -> None:
    """Its work stops here and begins elsewhere, without any wait."""
    job_ids = [world.create() for _ in range(3)]
    await worker.take()
    await worker.service.finish_or(grace_s=0.01)

    await worker.service.hand_back()

    assert worker.workshop.under_way == {}
    heir = world.worker()
    await heir.take()
    assert sorted(heir.workshop.under_way) == sorted(job_ids)
    assert world.store.endings == {}


async def test_unrecorded_ending_is_handed_back_on_stop(world: World, worker: Worker) -> None:
    """The database is away to the last: the job is another's, who works it again."""
    job_id = world.create()
    await worker.take()
    world.store.up = False
    worker.workshop.end(job_id)
    await worker.service.finish_or(grace_s=0.01)
    await worker.service.hand_back()

    world.store.up = True
    heir = world.worker()
    await heir.take()
    assert list(heir.workshop.under_way) == [job_id]


async def test_concurrent_endings_share_commands(world: World, worker: Worker) -> None:
    """A hundred outcomes cost a few commands, not a hundred."""
    job_ids = [world.create() for _ in range(100)]
    await worker.take()
    calls: list[str] = []
    world.store.fate = lambda method: calls.append(method) or Fate.STORED  # type: ignore[func-returns-value]

    for job_id in job_ids:
        worker.workshop.end(job_id)
    await worker.idle()

    assert len(world.published()) == 100
    assert calls.count("record") <= 3


async def test_first_delivery_needs_no_look_up(world: World) -> None:
    """Nobody can have recorded one; the work begins with the database away."""
    worker = world.worker()
    world.store.up = False
    job_id = world.create(number=1)

    await worker.take()

    assert worker.workshop.begun == {job_id: 1}


@pytest.mark.parametrize("case", ["second dispatch", "second delivery", "old news", "broker lost", "no message id"])
async def test_later_delivery_is_looked_up_first(world: World, case: str) -> None:
    """A recorded outcome is published again, and nothing runs again."""
    worker = world.worker()
    job_id = str(uuid.uuid4())
    await world.store.record([Ending(Turn(job_id, "x", 1_767_355_200), Status.FINISHED, 7, 1)])
    world.create(job_id, {"second dispatch": 2, "no message id": None}.get(case, 1))
    if case == "second delivery":
        # Handed back at once, as by a job-server that ends.
        (delivery,) = world.broker.take(JOB_CREATED, 1)
        world.broker.postpone(delivery, 0)
    if case == "old news":
        world.seconds += 3
    if case == "broker lost":
        # As if it had been killed, and had forgotten what it had delivered.
        world.seconds += 1
        worker.broker_lost_s = world.seconds

    await worker.take()
    await worker.idle()

    assert worker.workshop.begun == {}
    assert world.published() == [(job_id, "finished", 7)]
