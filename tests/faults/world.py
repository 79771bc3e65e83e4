"""A small world for the model: the real services over fakes, in a time that jumps from event to event.

A process here is a service with its loops. All it can do to the world goes through a `Gate`, where it may be held: a
frozen process is held until it thaws, a killed one for ever, wherever it was, which is what SIGKILL does.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from api_server.admission import Admission
from api_server.endings import Endings
from api_server.errors import TooSoonError
from api_server.kinds import Kinds
from api_server.outbox import Outbox
from hasty.jobs import Ending, Status
from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Subject
from hasty.server.messaging.topology import (
    DURABLES,
    JOB_AGAIN,
    JOB_CANCEL,
    JOB_CANCELLED,
    JOB_CREATED,
    JOB_FAILED,
    JOB_FINISHED,
    KIND_ANNOUNCED,
    Durable,
)
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Overloaded
from hasty.server.runtime.timers import TimerQueue
from job_server.cancellations import Cancellations
from job_server.domain import choose_sleep_s
from job_server.execution import Executor
from job_server.handlers import HandlerWork
from job_server.intake import Intake
from job_server.service import Service as JobService
from job_server.work import sleeping
from tests.chaos.checker import Consumer, DeadLetterDoc, Facts, JobDoc, OutcomeDoc
from tests.chaos.history import History, Post
from tests.fakes import FakeBroker, FakeEndingStore, FakeJetStream, FakeJobStore, FakeKindStore, FakeLeaseStore
from tests.faults.jumping import Gate, JumpingLoop

EPOCH: Final = datetime(2030, 1, 1, tzinfo=UTC)
COOLDOWN_S: Final = 20.0
OVERDUE_S: Final = 30.0
ACK_WAIT_S: Final = 5.0
SLEEP_S: Final = (0.5, 8.0)
TIMEOUT_S: Final = 7.0
CONCURRENCY: Final = 4
ENSURE_EVERY_S: Final = 2.0
LOOK_EVERY_S: Final = 2.0
API_SERVERS: Final = 2
JOB_SERVERS: Final = 2
ENDINGS: Final = {
    Status.FINISHED: JOB_FINISHED,
    Status.FAILED: JOB_FAILED,
    Status.CANCELLED: JOB_CANCELLED,
    Status.PROCESSING: JOB_AGAIN,
}
QUIET_AFTER_S: Final = 8 * OVERDUE_S + 120
"""The bound of I1 in this world: the longest wait of the rescue, and all that follows it."""


class Process:
    """What lives and dies as one: a service's tasks and its gates."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._tasks: list[asyncio.Task[None]] = []
        self.broker = FakeJetStream(world.broker)

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return not self._thawed.is_set()

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something as a part of this process."""
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    def kill(self) -> None:
        """Hold it for ever, wherever it is."""
        self.dead = True
        self.broker.close()

    def freeze(self) -> None:
        """Hold it until it thaws."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Let it go on."""
        self._thawed.set()

    async def passes(self) -> None:
        """Take the time of half a trip; does not return in a dead process."""
        if self.world.over:
            return
        await asyncio.sleep(self.world.chance.choice((0.0, 0.001, 0.02)))
        await self._thawed.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()


class ApiServer(Process):
    """The api-server's parts with the loops that its lifecycle gives them."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        jobs, broker = Gate(self, world.jobs), Gate(self, self.broker)
        overdue = timedelta(seconds=OVERDUE_S)
        self.outbox = Outbox(jobs, Gate(self, world.leases), broker, now=world.now, overdue=overdue)
        self.admission = Admission(
            jobs, self.outbox, now=world.now, cooldown=timedelta(seconds=COOLDOWN_S), new_id=lambda _key: world.new_id()
        )
        self.endings = Endings(
            jobs, broker, DeadLetters(jobs.dead_letter, broker), now=world.now, confirm=self.outbox.confirm
        )
        self.broker.on_connected.append(self.outbox.sweep_soon)
        self.begin(self._keep_topology(), "topology")
        self.begin(self.outbox.run_sweeps(), "sweeps")
        self.begin(self.outbox.lease.run(), "lease")
        for status, durable in ENDINGS.items():
            self.begin(self._apply(status, durable), f"apply {status.value}")
        dead_letters = DeadLetters(jobs.dead_letter, broker)
        kinds = Kinds(Gate(self, FakeKindStore()), broker, dead_letters, now=world.now)
        self.begin(self._learn(kinds), "learn kinds")

    async def _learn(self, kinds: Kinds) -> None:
        while True:
            await self.passes()
            batch = self.world.broker.take(KIND_ANNOUNCED, 8)
            if batch:
                await kinds.take(batch)
            else:
                await asyncio.sleep(LOOK_EVERY_S)

    async def _keep_topology(self) -> None:
        known: str | None = None
        while True:
            try:
                await self.passes()
                state = await self.broker.ensure(ACK_WAIT_S)
                if state.identity != known:
                    if known is not None or state.is_new:
                        await self.outbox.on_stream_recreated()
                    known = state.identity
            except (BrokerUnavailable, StoreUnavailable):
                pass
            await asyncio.sleep(ENSURE_EVERY_S)

    async def _apply(self, status: Status, durable: Any) -> None:
        while True:
            await self.passes()
            batch = self.world.broker.take(durable, self.world.chance.randint(1, 8))
            if batch:
                await self.endings.apply_endings(status, batch)
            else:
                await asyncio.sleep(LOOK_EVERY_S)


class JobServer(Process):
    """The job-server's service with the loops that its lifecycle gives it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        timers = TimerQueue()

        def choose_s() -> float:
            return choose_sleep_s(*SLEEP_S, world.chance.randint, world.chance.uniform)

        store, broker = Gate(self, world.outcomes), Gate(self, self.broker)
        letters = DeadLetters(store.dead_letter, broker)
        handlers = HandlerWork(Executor(None), worker="a worker", root_kind=None, chance=world.chance.random)

        def now_ns() -> int:
            return int(world.broker.now() * 1e9)

        once, never = handlers.is_at_most_once, lambda: -1
        intake = Intake(store, letters, root_kind=None, at_most_once=once, broker_lost_ns=never, now_ns=now_ns)
        parts = (store, broker, broker, intake, sleeping(timers, choose_s, TIMEOUT_S))
        self.service = JobService(*parts, concurrency=CONCURRENCY, handlers=handlers, now_ns=now_ns)
        self.begin(self.service.heartbeat.run(ACK_WAIT_S), "heartbeat")
        self.begin(self._take(JOB_CREATED, self.service.take), "take jobs")
        cancellations = Cancellations(
            *(self.service, broker, letters),
            publish=self._publish,
            is_held_elsewhere=self._is_held_elsewhere,
        )
        self.begin(self._take(JOB_CANCEL, cancellations.take), "take cancellations")

    async def _publish(self, _data: bytes) -> None:
        """Nobody listens: in this world no job is cancelled, and what says so is malformed."""

    async def _is_held_elsewhere(self, _job_id: str) -> bool:
        return False

    async def _take(self, durable: Durable, handle: Callable[[Sequence[Delivery]], Awaitable[None]]) -> None:
        while True:
            await self.passes()
            batch = self.world.broker.take(durable, self.service.free_slots)
            if batch:
                await handle(batch)
            else:
                await asyncio.sleep(LOOK_EVERY_S)


class World:  # long: a method for each rule of the model
    """Two api-servers, two job-servers, a broker, two databases, and what callers were told."""

    def __init__(self, seed: int) -> None:
        self.loop = JumpingLoop()
        self.chance = random.Random(seed)
        self.broker = FakeBroker(now=self.loop.time)
        self.broker.order = self._in_any_order
        self.reordering = False
        self.jobs = FakeJobStore(now=self.now)
        self.leases = FakeLeaseStore(self.jobs)
        self.outcomes = FakeEndingStore()
        self.history = History()
        self.over = False
        self._dead: list[Process] = []
        self._ids = itertools.count(1)
        self._asking: set[asyncio.Task[None]] = set()
        self.api_servers: list[ApiServer] = []
        self.job_servers: list[JobServer] = []
        self.do(self._begin())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in this world's time."""
        return self.loop.run_until_complete(work)

    def now(self) -> datetime:
        """Give the database's time, in whole milliseconds."""
        now = EPOCH + timedelta(seconds=self.loop.time())
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def new_id(self) -> str:
        """Give the next job id."""
        return f"00000000-0000-4000-8000-{next(self._ids):012x}"

    async def _begin(self) -> None:
        self.broker.ensure(ACK_WAIT_S)
        self.api_servers = [ApiServer(self) for _ in range(API_SERVERS)]
        self.job_servers = [JobServer(self) for _ in range(JOB_SERVERS)]

    def _in_any_order(self, sequences: list[int]) -> list[int]:
        if self.reordering:
            self.chance.shuffle(sequences)
        return sequences

    # -- what may happen ------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let the world go on for a while."""
        self.do(asyncio.sleep(seconds))

    def post(self, number: int, object_id: str) -> None:
        """Have a caller ask an api-server for a job."""

        async def begin() -> None:
            task = asyncio.create_task(self._ask(self.api_servers[number], object_id), name="caller")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await asyncio.sleep(0)

        self.do(begin())

    async def _ask(self, server: ApiServer, object_id: str) -> None:
        sent = self._seconds()
        answer: tuple[int, str | None] | None = None
        try:
            async with asyncio.timeout(20):
                answer = await self._answer(server, object_id)
        except (TimeoutError, asyncio.CancelledError):
            pass
        if server.dead or answer is None:
            self.history.posts.append(Post(sent, self._seconds(), object_id, None))
        else:
            self.history.posts.append(Post(sent, self._seconds(), object_id, *answer))

    async def _answer(self, server: ApiServer, object_id: str) -> tuple[int, str | None]:
        try:
            job_id = await server.admission.submit(object_id)
        except TooSoonError:
            return 400, None
        except (StoreUnavailable, Overloaded):
            return 503, None
        await server.passes()
        return 201, job_id

    def replace_api_server(self, number: int) -> None:
        """SIGKILL, and a new one."""
        self.do(self._replace(self.api_servers, number, ApiServer))

    def replace_job_server(self, number: int) -> None:
        """SIGKILL, and a new one."""
        self.do(self._replace(self.job_servers, number, JobServer))

    async def _replace(self, servers: list[Any], number: int, kind: type[Process]) -> None:
        servers[number].kill()
        # Its tasks wait for ever, and nobody else holds on to them.
        self._dead.append(servers[number])
        servers[number] = kind(self)

    def turn_broker(self, way: Literal["up", "down"]) -> None:
        """Have the broker away, or back."""
        came = way == "up" and not self.broker.up
        self.broker.up = way == "up"
        if came:
            for server in self.api_servers:
                for call in server.broker.on_connected:
                    call()

    def heal(self) -> None:
        """End everything that is wrong, except what was lost."""
        self.turn_broker("up")
        self.jobs.up = self.outcomes.up = True
        self.reordering = False
        for process in (*self.api_servers, *self.job_servers):
            process.thaw()

    def rest(self) -> None:
        """Let the world go on until its bound, or until nothing is left to do."""
        until = self.loop.time() + QUIET_AFTER_S
        while self.loop.time() < until and not self._quiet():
            self.pass_time(2)

    def _quiet(self) -> bool:
        return (
            not self._asking
            and self.broker.usable
            and not self.jobs.due_at
            and all(self.broker.unfinished(durable) == 0 for durable in DURABLES)
        )

    # -- what is so -----------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Read both databases and the broker."""
        return Facts(
            jobs=[
                JobDoc(
                    job_id=job.job_id,
                    object_id=job.object_id,
                    run=job.run,
                    status=job.status.value,
                    created_at=job.created_at.timestamp(),
                    sleep_s=job.sleep_time_used,
                    dispatches=job.dispatches,
                    due=job.job_id in self.jobs.due_at,
                )
                for job in self.jobs.jobs.values()
            ],
            outcomes=[_outcome(ending) for ending in self.outcomes.endings.values()],
            dead_letters=[
                DeadLetterDoc(letter.subject, letter.data, letter.reason)
                for letter in (*self.jobs.dead.values(), *self.outcomes.dead.values())
            ],
            consumers=[Consumer(durable.name, 0, self.broker.unfinished(durable)) for durable in DURABLES],
        )

    def close(self) -> None:
        """End the world, and everything in it."""
        self.over = True
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.do(asyncio.wait(tasks, timeout=1))
        self.loop.close()

    def _seconds(self) -> float:
        return EPOCH.timestamp() + self.loop.time()


def _outcome(ending: Ending) -> OutcomeDoc:
    return OutcomeDoc(
        ending.job_id, ending.turn.object_id, ending.status.value, ending.sleep_time_used, "", ending.attempt
    )


def published(world: World) -> list[tuple[str, bytes]]:
    """Give the stream's messages that are events, from the first on."""
    stored = world.broker._messages  # noqa: SLF001 - no client reads a whole stream
    return [(message.subject, message.data) for message in stored if message.data.startswith(b"{")]


SUBJECTS: Final = tuple(Subject)
