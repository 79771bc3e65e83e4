"""A job-server on fakes, with work and handlers that end when the test says so."""

import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from hasty.jobs import Job, Report, Status, Task, Turn, place_of
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import dispatch
from hasty.server.messaging.topology import JOB_CANCEL, JOB_CANCELLED, JOB_CREATED, JOB_FINISHED, work_durable
from job_server.intake import Intake
from job_server.service import Service
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeEndingStore, FakeJetStream

KIND = "greet"
WORK = work_durable(KIND)
REPORT = Report("a worker", "v1", 1, 2)

ACK_WAIT_S = 50.0
CREATED_AT = datetime.fromtimestamp(1_767_355_200, UTC)


@dataclass
class Workshop:
    """Work that is under way, and what was begun in all."""

    under_way: dict[str, Callable[[Status, float], None]] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)

    def work(self, turn: Turn, ended: Callable[[Status, float], None]) -> Callable[[], None]:
        """Start a turn's work."""
        self.under_way[turn.job_id] = ended
        self.begun[turn.job_id] += 1
        return partial(self.under_way.__delitem__, turn.job_id)

    def end(self, job_id: str, status: Status = Status.FINISHED, took_s: float = 20) -> None:
        """Let a job's work end."""
        self.under_way.pop(job_id)(status, took_s)


@dataclass
class Started:
    """A run of a handler, and how it is ended."""

    turn: Turn
    run: int
    alone: bool
    ended: Callable[[Status, float, Report], None]
    refused: Callable[[], None]


@dataclass
class Hall:
    """Handlers that run, and those that were asked to stop."""

    worker: str = "a worker"
    root_kind: str | None = None
    at_most_once: bool = False
    slots: int = 100
    under_way: dict[str, Started] = field(default_factory=dict)
    runs: list[tuple[str, int, bool]] = field(default_factory=list)
    asked_to_stop: list[str] = field(default_factory=list)

    def free_slots(self, kind: str) -> int:
        """How many more may run."""
        return self.slots if kind == KIND else 0

    def is_at_most_once(self, kind: str) -> bool:
        """As the test has it."""
        return self.at_most_once and kind == KIND

    def start(
        self,
        turn: Turn,
        run: int,
        *,
        alone: bool,
        ended: Callable[[Status, float, Report], None],
        refused: Callable[[], None],
    ) -> Callable[[], None]:
        """Start a run."""
        self.runs.append((turn.turn_id, run, alone))
        self.under_way[turn.turn_id] = Started(turn, run, alone, ended, refused)
        return partial(self.under_way.__delitem__, turn.turn_id)

    def cancel(self, turn_id: str) -> None:
        """Ask a run to stop."""
        self.asked_to_stop.append(turn_id)

    def end(self, turn_id: str, status: Status = Status.FINISHED, report: Report = REPORT) -> None:
        """Let a run end."""
        self.under_way.pop(turn_id).ended(status, 1.0, report)

    def refuse(self, turn_id: str) -> None:
        """Let a handler not understand its input."""
        self.under_way.pop(turn_id).refused()


class World:
    """A database, a broker and any number of job-servers, under one clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.store = FakeEndingStore()
        self.broker = FakeBroker(lambda: self.seconds)
        self.broker.ensure(ACK_WAIT_S, [KIND])

    def worker(self, concurrency: int = 100, hall: Hall | None = None) -> "Worker":
        """One more job-server."""
        return Worker(self, concurrency, hall or Hall())

    def post(
        self, turn: int = 1, job_id: str | None = None, number: int = 1, attempt: int = 1, *, again: bool = False
    ) -> Turn:
        """Have a turn of a kind dispatched."""
        job_id = job_id or str(uuid.uuid4())
        place = place_of(KIND, None, job_id)
        task = Task(KIND, '{"name":"Ada"}', attempt)
        job = Job(job_id, place, 1, CREATED_AT, turn_number=turn, task=task)
        self.broker.store(dispatch(job, number, again=again))
        return job.turn

    def request_cancel(self, turn: Turn) -> Delivery:
        """Have the cancellation of a turn requested, and delivered."""
        place = place_of(KIND, None, turn.job_id)
        self.broker.store(dispatch(Job(turn.job_id, place, 1, CREATED_AT, cancel_at=CREATED_AT, task=turn.task), 1))
        return self.broker.take(JOB_CANCEL, 1)[0]

    def deliver_all_again(self) -> None:
        """Let every acknowledgement wait be over."""
        self.seconds += ACK_WAIT_S + 1

    def create(self, job_id: str | None = None, number: int | None = None) -> str:
        """Have a job created, under the message id of a dispatch if it is to have one; its id."""
        job_id = job_id or str(uuid.uuid4())
        message = dispatch(Job(job_id, "x", 1, CREATED_AT), number or 1)
        self.broker.store(message if number else replace(message, message_id=None))
        return job_id

    def published(self) -> list[tuple[str, str, float]]:
        """What the job-servers have told since the last time: job, status, sleep."""
        deliveries = self.broker.take(JOB_FINISHED, 1000) + self.broker.take(JOB_CANCELLED, 1000)
        for delivery in deliveries:
            self.broker.settle(delivery)
        events = [json.loads(delivery.data)["job"] for delivery in deliveries]
        return [(event["job_id"], event["status"], event["sleep_time_used"]) for event in events]

    @property
    def at_rest(self) -> bool:
        """Whether every created job is acknowledged."""
        return self.broker.unfinished(JOB_CREATED) + self.broker.unfinished(WORK) == 0


class Worker:
    """A job-server, and its side of the wire."""

    def __init__(self, world: World, concurrency: int, hall: Hall) -> None:
        self.workshop = Workshop()
        self.hall = hall
        self.slots_freed = 0
        self.broker_lost_s = -1.0
        self._world = world
        broker = FakeJetStream(world.broker)
        intake = Intake(
            world.store,
            DeadLetters(world.store.dead_letter, broker),
            root_kind=hall.root_kind,
            at_most_once=hall.is_at_most_once,
            broker_lost_ns=lambda: int(self.broker_lost_s * 1e9),
            now_ns=lambda: int(world.seconds * 1e9),
        )
        self.service = Service(
            world.store,
            broker,
            broker,
            intake,
            self.workshop.work,
            concurrency=concurrency,
            handlers=self.hall,
            now_ns=lambda: int(world.seconds * 1e9),
        )
        self.service.held.on_freed = self._on_slot_freed

    def _on_slot_freed(self) -> None:
        self.slots_freed += 1

    async def take(self) -> list[Delivery]:
        """Take what the broker has, as far as there are free slots."""
        deliveries = self._world.broker.take(JOB_CREATED, self.service.free_slots)
        deliveries += self._world.broker.take(WORK, self.service.free_slots_of(KIND))
        await self.service.take(deliveries)
        return deliveries

    async def idle(self) -> None:
        """Wait until everything that has ended is recorded, told and acknowledged."""
        await eventually(lambda: len(self.service.held) == len(self.workshop.under_way) + len(self.hall.under_way))
