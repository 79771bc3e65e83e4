"""A small world for the model: the real services over fakes, in a time that jumps from event to event.

A process here is a service with its loops. All it can do to the world goes through a `Gate`, where it may be held: a
frozen process is held until it thaws, a killed one for ever, wherever it was, which is what SIGKILL does.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from api_server.errors import StoreUnavailable, TooSoonError
from api_server.service import Service as ApiService
from job_server.agenda import Agenda
from job_server.domain import choose_sleep_s
from job_server.service import Service as JobService
from job_server.work import sleeping
from messaging.events import Subject
from messaging.jetstream import BrokerUnavailable
from messaging.topology import DURABLES, JOB_CREATED
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore, FakeOutcomeStore
from tests.faults.checker import AsideDoc, Consumer, Facts, JobDoc, OutcomeDoc
from tests.faults.history import History, Post

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from job_server.domain import Outcome

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
QUIET_AFTER_S: Final = 8 * OVERDUE_S + 120
"""The bound of I1 in this world: the longest wait of the rescue, and all that follows it."""


class _Jumping(selectors.SelectSelector):
    """Never waits: when nothing is ready, the time is that of the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Nothing outside of this world is ever ready, so the system is not asked.
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.now += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting costs no time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the seconds since the world began."""
        return self._jumping.now


class Gate:
    """Stands before a fake: each call passes on its way there and on its way back, if its process still can."""

    def __init__(self, process: Process, target: Any) -> None:
        self._process = process
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._process.passes()
            try:
                return await found(*arguments, **named)
            finally:
                await self._process.passes()

        return call


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
    """The api-server's service with the loops that its app gives it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.service = ApiService(
            Gate(self, world.jobs),
            Gate(self, self.broker),
            now=world.now,
            cooldown=timedelta(seconds=COOLDOWN_S),
            overdue=timedelta(seconds=OVERDUE_S),
            new_id=world.new_id,
        )
        self.broker.on_connected.append(self.service.broker_is_back)
        self.begin(self._keep_topology(), "topology")
        self.begin(self.service.run_dispatcher(), "dispatcher")
        self.begin(self.service.run_keeper(), "keeper")
        for durable in DURABLES[1:]:
            self.begin(self._report(durable), f"report {durable.subject}")

    async def _keep_topology(self) -> None:
        known: str | None = None
        while True:
            try:
                await self.passes()
                state = await self.broker.ensure(ACK_WAIT_S)
                if state.identity != known:
                    if known is not None or state.is_new:
                        await self.service.broker_lost_everything()
                    known = state.identity
            except (BrokerUnavailable, StoreUnavailable):
                pass
            await asyncio.sleep(ENSURE_EVERY_S)

    async def _report(self, durable: Any) -> None:
        while True:
            await self.passes()
            batch = self.world.broker.take(durable, self.world.chance.randint(1, 8))
            if batch:
                await self.service.report(durable.subject, batch)
            else:
                await asyncio.sleep(LOOK_EVERY_S)


class JobServer(Process):
    """The job-server's service with the loops that its app gives it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        agenda = Agenda()

        def choose_s() -> float:
            return choose_sleep_s(*SLEEP_S, world.chance.randint, world.chance.uniform)

        self.service = JobService(
            Gate(self, world.outcomes),
            Gate(self, self.broker),
            sleeping(agenda, choose_s, TIMEOUT_S),
            concurrency=CONCURRENCY,
            room_changed=lambda: None,
            now_ns=lambda: int(world.broker.now() * 1e9),
        )
        self.begin(self.service.run_heart(ACK_WAIT_S), "heart")
        self.begin(self._take(), "take jobs")

    async def _take(self) -> None:
        while True:
            await self.passes()
            batch = self.world.broker.take(JOB_CREATED, self.service.room)
            if batch:
                await self.service.take(batch)
            else:
                await asyncio.sleep(LOOK_EVERY_S)


class World:
    """Two api-servers, two job-servers, a broker, two databases, and what callers were told."""

    def __init__(self, seed: int) -> None:
        self.loop = JumpingLoop()
        self.chance = random.Random(seed)
        self.broker = FakeBroker(now=self.loop.time)
        self.broker.order = self._in_any_order
        self.reordering = False
        self.jobs = FakeJobStore(now=self.now)
        self.outcomes = FakeOutcomeStore()
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
            job_id = await server.service.submit(object_id)
        except TooSoonError:
            return 400, None
        except StoreUnavailable:
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
                    job_id=job.run.job_id,
                    object_id=job.run.object_id,
                    run=job.run.number,
                    status=job.status.value,
                    created_at=job.run.created_at.timestamp(),
                    sleep_s=job.sleep_time_used,
                    dispatches=job.dispatches,
                    due=job.run.job_id in self.jobs.due_at,
                )
                for job in self.jobs.jobs.values()
            ],
            outcomes=[_outcome(outcome) for outcome in self.outcomes.outcomes.values()],
            aside=[AsideDoc(*kept) for kept in (*self.jobs.aside.values(), *self.outcomes.aside.values())],
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


def _outcome(outcome: Outcome) -> OutcomeDoc:
    return OutcomeDoc(
        outcome.job.job_id, outcome.job.object_id, outcome.ending.value, outcome.sleep_time_used, "", outcome.attempt
    )


def published(world: World) -> list[tuple[str, bytes]]:
    """Give the stream's messages that are events, from the first on."""
    stored = world.broker._messages  # noqa: SLF001 - no client reads a whole stream
    return [(message.subject, message.data) for message in stored if message.data.startswith(b"{")]


SUBJECTS: Final = tuple(Subject)
