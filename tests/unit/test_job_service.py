"""What the job-server does, on fakes that fail on demand and with work that ends when the test says so."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from job_server.domain import Ending, Job, Outcome
from job_server.service import Service
from messaging.events import JobFacts, Outgoing, Subject, encode
from messaging.jetstream import Delivery
from messaging.topology import JOB_CANCELLED, JOB_CREATED, JOB_FINISHED
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeJetStream, FakeOutcomeStore, Fate

ACK_WAIT_S = 50.0


@dataclass
class Workshop:
    """Work that is under way, and what was begun in all."""

    under_way: dict[str, Callable[[Ending, float], None]] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)

    def work(self, job: Job, ended: Callable[[Ending, float], None]) -> Callable[[], None]:
        """Begin a job's work."""
        self.under_way[job.job_id] = ended
        self.begun[job.job_id] += 1
        return partial(self.under_way.__delitem__, job.job_id)

    def end(self, job_id: str, ending: Ending = Ending.FINISHED, took_s: float = 20) -> None:
        """Let a job's work end."""
        self.under_way.pop(job_id)(ending, took_s)


class World:
    """A database, a broker and any number of job-servers, under one clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.store = FakeOutcomeStore()
        self.broker = FakeBroker(lambda: self.seconds)
        self.broker.ensure(ACK_WAIT_S)

    def worker(self, concurrency: int = 100) -> "Worker":
        """One more job-server."""
        return Worker(self, concurrency)

    def create(self, job_id: str | None = None, dispatch: int | None = None) -> str:
        """Have a job created, under the message id of a dispatch if it is to have one; its id."""
        job_id = job_id or str(uuid.uuid4())
        facts = JobFacts(job_id, job_id, "x", "processing", 1_767_355_200, 0)
        message_id = None if dispatch is None else f"{job_id}:{dispatch}"
        self.broker.store(Outgoing(Subject.CREATED.value, encode(Subject.CREATED, facts), message_id))
        return job_id

    def told(self) -> list[tuple[str, str, float]]:
        """What the job-servers have told since the last time: job, status, sleep."""
        deliveries = self.broker.take(JOB_FINISHED, 1000) + self.broker.take(JOB_CANCELLED, 1000)
        for delivery in deliveries:
            self.broker.settle(delivery)
        events = [json.loads(delivery.data)["job"] for delivery in deliveries]
        return [(event["job_id"], event["status"], event["sleep_time_used"]) for event in events]

    @property
    def at_rest(self) -> bool:
        """Whether every created job is acknowledged."""
        return self.broker.unfinished(JOB_CREATED) == 0


class Worker:
    """A job-server, and its side of the wire."""

    def __init__(self, world: World, concurrency: int) -> None:
        self.workshop = Workshop()
        self.rooms = 0
        self._world = world
        self.service = Service(
            world.store,
            FakeJetStream(world.broker),
            self.workshop.work,
            concurrency=concurrency,
            room_changed=self._room_changed,
            now_ns=lambda: int(world.seconds * 1e9),
        )

    def _room_changed(self) -> None:
        self.rooms += 1

    async def take(self) -> list[Delivery]:
        """Take what the broker has, as far as there is room."""
        deliveries = self._world.broker.take(JOB_CREATED, self.service.room)
        await self.service.take(deliveries)
        return deliveries

    async def idle(self) -> None:
        """Wait until everything that has ended is recorded, told and acknowledged."""
        await eventually(lambda: self.service.held == len(self.workshop.under_way))


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def worker(world: World) -> Worker:
    """A job-server in it."""
    return world.worker()


async def test_a_job_is_worked_recorded_told_and_acknowledged(world: World, worker: Worker) -> None:
    """In this order; until then it is held."""
    job_id = world.create()
    await worker.take()
    assert worker.service.held == 1
    assert not world.at_rest

    worker.workshop.end(job_id, took_s=17)
    await worker.idle()

    assert world.store.outcomes[job_id] == Outcome(Job(job_id, "x", 1_767_355_200), Ending.FINISHED, 17, 1)
    assert world.told() == [(job_id, "finished", 17)]
    assert world.at_rest
    assert worker.rooms == 1


async def test_cancelled_work_is_told_as_cancelled(world: World, worker: Worker) -> None:
    """On its own subject."""
    job_id = world.create()
    await worker.take()

    worker.workshop.end(job_id, Ending.CANCELLED, 46)
    await worker.idle()

    assert world.told() == [(job_id, "cancelled", 46)]


async def test_no_more_is_taken_than_there_are_places(world: World) -> None:
    """A place is free again when its job is acknowledged."""
    worker = world.worker(concurrency=2)
    job_ids = [world.create() for _ in range(5)]

    await worker.take()
    await worker.take()
    assert worker.service.held == 2
    assert worker.service.room == 0

    worker.workshop.end(job_ids[0])
    await worker.idle()
    assert worker.service.room == 1


async def test_a_recorded_outcome_is_adopted_and_told_again(world: World, worker: Worker) -> None:
    """The work is not done again, whoever did it and however the worker before ended."""
    job_id = world.create()
    await world.store.record([Outcome(Job(job_id, "x", 1), Ending.CANCELLED, 46, 1)])

    await worker.take()
    await worker.idle()

    assert worker.workshop.begun == {}
    assert world.told() == [(job_id, "cancelled", 46)]
    assert world.at_rest


async def test_a_zombie_adopts_what_the_heir_recorded(world: World, worker: Worker) -> None:
    """It was frozen, its job went to another, and it ends all the same: one outcome, told by both."""
    zombie, heir = worker, world.worker()
    job_id = world.create()
    await zombie.take()
    world.seconds += ACK_WAIT_S + 1
    await heir.take()
    heir.workshop.end(job_id, took_s=17)
    await heir.idle()

    zombie.workshop.end(job_id, Ending.CANCELLED, 46)
    await zombie.idle()

    assert world.told() == [(job_id, "finished", 17)] * 2
    assert len(world.store.outcomes) == 1
    assert world.at_rest


async def test_a_job_delivered_again_to_its_own_worker_runs_once(world: World, worker: Worker) -> None:
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
    assert len(world.told()) == 1


async def test_signs_of_life_keep_what_is_held(world: World, worker: Worker) -> None:
    """Nobody else gets it, however long it takes."""
    world.create()
    await worker.take()

    for _ in range(10):
        world.seconds += ACK_WAIT_S / 3
        await worker.service.beat()

    assert await world.worker().take() == []


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_an_outcome_waits_for_the_database(world: World, worker: Worker, fate: Fate) -> None:
    """It stays held meanwhile, and is recorded once; nothing is told before it is recorded."""
    job_id = world.create()
    await worker.take()
    world.store.fate = lambda method: fate if method == "record" else Fate.STORED
    worker.workshop.end(job_id, took_s=17)
    await asyncio.sleep(0)
    assert world.told() == []
    assert worker.service.held == 1

    world.store.fate = lambda _: Fate.STORED
    await worker.idle()

    assert world.told() == [(job_id, "finished", 17)]
    assert world.store.outcomes[job_id].sleep_time_used == 17
    assert world.at_rest


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_an_outcome_is_told_until_the_broker_has_it(world: World, worker: Worker, fate: Fate) -> None:
    """It may be told twice; it is acknowledged only when it was told for certain."""
    job_id = world.create()
    await worker.take()
    world.broker.fate = lambda _: fate
    worker.workshop.end(job_id, took_s=17)
    await eventually(lambda: job_id in world.store.outcomes)
    assert not world.at_rest

    world.broker.fate = lambda _: Fate.STORED
    await worker.idle()

    assert set(world.told()) == {(job_id, "finished", 17)}
    assert world.at_rest


async def test_nonsense_is_set_aside_and_stops_nothing(world: World, worker: Worker) -> None:
    """It never comes again, and the job beside it is begun."""
    world.broker.store(Outgoing(Subject.CREATED.value, b"\xff"))
    job_id = world.create()
    world.broker.store(Outgoing(Subject.CREATED.value, b"x" * 100_000))

    await worker.take()

    assert list(worker.workshop.under_way) == [job_id]
    assert sorted(len(data) for _, data, _ in world.store.aside.values()) == [1, 64 * 1024]
    assert world.broker.unfinished(JOB_CREATED) == 1


async def test_without_a_database_jobs_are_handed_back_for_later(world: World, worker: Worker) -> None:
    """None is begun and none is lost, the nonsense included."""
    job_id = world.create()
    world.broker.store(Outgoing(Subject.CREATED.value, b"nonsense"))
    world.store.up = False
    await worker.take()
    assert worker.service.held == 0
    assert not world.at_rest
    assert await worker.take() == []

    world.store.up = True
    world.seconds += 2
    await worker.take()

    assert list(worker.workshop.under_way) == [job_id]
    assert len(world.store.aside) == 1


async def test_a_job_that_ends_within_the_grace_is_finished_here(world: World, worker: Worker) -> None:
    """Nothing new is taken meanwhile."""
    job_id = world.create()
    await worker.take()
    ending = asyncio.create_task(worker.service.finish_or(grace_s=10))
    await asyncio.sleep(0)
    assert worker.service.room == 0

    worker.workshop.end(job_id)
    await ending

    assert world.at_rest
    assert world.told() == [(job_id, "finished", 20)]


async def test_what_does_not_end_in_time_is_handed_back_at_once(world: World, worker: Worker) -> None:
    """Its work stops here and begins elsewhere, without any wait."""
    job_ids = [world.create() for _ in range(3)]
    await worker.take()
    await worker.service.finish_or(grace_s=0.01)

    await worker.service.hand_back()

    assert worker.workshop.under_way == {}
    heir = world.worker()
    await heir.take()
    assert sorted(heir.workshop.under_way) == sorted(job_ids)
    assert world.store.outcomes == {}


async def test_an_outcome_that_cannot_be_recorded_before_the_end_is_handed_back(world: World, worker: Worker) -> None:
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


async def test_many_endings_at_once_share_their_trips(world: World, worker: Worker) -> None:
    """A hundred outcomes cost a few commands, not a hundred."""
    job_ids = [world.create() for _ in range(100)]
    await worker.take()
    calls: list[str] = []
    world.store.fate = lambda method: calls.append(method) or Fate.STORED  # type: ignore[func-returns-value]

    for job_id in job_ids:
        worker.workshop.end(job_id)
    await worker.idle()

    assert len(world.told()) == 100
    assert calls.count("record") <= 3


async def test_first_news_of_a_job_needs_no_look_at_the_outcomes(world: World) -> None:
    """Nobody can have recorded one; the work begins with the database away."""
    worker = world.worker()
    world.store.up = False
    job_id = world.create(dispatch=1)

    await worker.take()

    assert worker.workshop.begun == {job_id: 1}


@pytest.mark.parametrize("case", ["second dispatch", "second delivery", "old news", "no message id"])
async def test_what_may_have_been_dealt_with_is_looked_up_first(world: World, case: str) -> None:
    """A recorded outcome is told again, and nothing runs again."""
    worker = world.worker()
    job_id = str(uuid.uuid4())
    await world.store.record([Outcome(Job(job_id, "x", 1_767_355_200), Ending.FINISHED, 7, 1)])
    world.create(job_id, {"second dispatch": 2, "no message id": None}.get(case, 1))
    if case == "second delivery":
        # Handed back at once, as by a job-server that ends.
        (delivery,) = world.broker.take(JOB_CREATED, 1)
        world.broker.postpone(delivery, 0)
    if case == "old news":
        world.seconds += 3

    await worker.take()
    await worker.idle()

    assert worker.workshop.begun == {}
    assert world.told() == [(job_id, "finished", 7)]
