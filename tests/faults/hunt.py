"""One run: a stack of its own under load, fault after fault from a seeded schedule, then rest, facts and judgement."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import httpx
from nats.errors import Error as NatsError
from pymongo.errors import PyMongoError

from local_stack import Stack, StackConfig, StackError
from tests.faults import checker, facts, story
from tests.faults.callers import Callers
from tests.faults.checker import Consumer, Facts, Process, Rules, Violation, Vitals
from tests.faults.disks import CannotMount, Disk
from tests.faults.ground import SERVICES, Ground, Hit, Kind, NotReached, Wires
from tests.faults.history import Fault, History, run_clock
from tests.faults.kinds import ALL
from tests.faults.load import Flight, Load
from tests.faults.wires import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from local_stack import Child

_PAUSE_S: Final = 0.3
_OVERDUE_GROWS: Final = 8
DISKS: Final = ("nats", "api-mongo", "job-mongo")


@dataclass(frozen=True)
class Plan:
    """What to do: everything that is left to chance comes from the seed."""

    seed: int
    folder: Path
    seconds: float | None = None
    """Begin no fault after this long; None: until every kind of `kinds` was injected once."""
    kinds: Sequence[str] = tuple(ALL)
    overlap: int = 1
    """How many faults are injected side by side."""
    rate: float = 60
    api_servers: int = 2
    job_servers: int = 3
    ack_wait_s: float = 3
    overdue_s: float = 10
    cooldown_s: float = 8
    silence_s: float = 4
    sleep_s: tuple[float, float] = (0.05, 0.5)
    timeout_s: float = 0.45
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    disks: bool = True
    warm_up_s: float = 4
    settle_s: float | None = None
    """The bound of I1; None: the longest wait of the rescue, and some more."""

    @property
    def bound_s(self) -> float:
        """Within this time after the last healing every job is terminal."""
        if self.settle_s is not None:
            return self.settle_s
        return self.overdue_s * _OVERDUE_GROWS + self.ack_wait_s + 30

    def settings(self, faults_folder: Path) -> dict[str, str]:
        """Give the services' environment."""
        return {
            "HASTY_FAULTS_DIR": str(faults_folder),
            "HASTY_ACK_WAIT_S": str(self.ack_wait_s),
            "HASTY_OVERDUE_S": str(self.overdue_s),
            "HASTY_COOLDOWN_S": str(self.cooldown_s),
            "HASTY_SILENCE_S": str(self.silence_s),
            "HASTY_JOB_SLEEP_MIN_S": str(self.sleep_s[0]),
            "HASTY_JOB_SLEEP_MAX_S": str(self.sleep_s[1]),
            "HASTY_JOB_TIMEOUT_S": str(self.timeout_s),
            **self.environment,
        }


@dataclass
class Outcome:
    """What a run found."""

    plan: Plan
    history: History
    facts: Facts
    violations: list[Violation]
    stories: list[str]
    obstacles: dict[str, str]
    not_reached: dict[str, int]
    seconds: float

    def again(self) -> set[str]:
        """Give the jobs whose outcome was recorded at a second or later delivery: they may have run twice."""
        return {outcome.job_id for outcome in self.facts.outcomes if outcome.attempt > 1}


class Hunt:
    """The run of one plan."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._history = History()
        self._chance = random.Random(f"schedule/{plan.seed}")
        self._not_reached: dict[str, int] = defaultdict(int)
        self._obstacles: dict[str, str] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._late: list[Violation] = []
        self._lives: dict[str, list[Child]] = defaultdict(list)

    async def run(self) -> Outcome:
        """Run it from the first process to the last verdict."""
        began = time.monotonic()
        plan = self._plan
        faults_folder = plan.folder / "faults"
        faults_folder.mkdir(parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as opened:
            disks, no_disks = await _disks(plan, opened)
            wires = Wires()
            opened.push_async_callback(wires.close)
            config = StackConfig(
                folder=plan.folder,
                api_servers=plan.api_servers,
                job_servers=plan.job_servers,
                environment=plan.settings(faults_folder),
                commands=plan.commands,
                wire=wires.wire,
                restart_pause_s=0.1,
                log_limit_bytes=2**31,
            )
            stack = await opened.enter_async_context(Stack.running(config, tell=self._note))
            api = await opened.enter_async_context(facts.database(stack, "api-mongo"))
            job = await opened.enter_async_context(facts.database(stack, "job-mongo"))
            flight = Flight(api.hasty_api.jobs)
            host, _, port = stack.url.removeprefix("http://").rpartition(":")
            caller = Wire("callers", "nginx", (host, int(port)))
            address = caller.listen()
            opened.push_async_callback(caller.close)
            host, _, port = address.rpartition(":")
            callers = Callers(host, int(port), connect_within_s=4, answer_within_s=12)
            chance = random.Random(f"load/{plan.seed}")
            load = Load(callers, self._history, flight, chance, plan.rate, f"s{plan.seed}")
            ground = Ground(
                stack=stack,
                api=api,
                job=job,
                wires=wires,
                caller=caller,
                history=self._history,
                flight=flight,
                load=load,
                faults_folder=faults_folder,
                data=plan.folder / "data",
                ack_wait_s=plan.ack_wait_s,
                silence_s=plan.silence_s,
                disks=disks,
                no_disks=no_disks,
            )
            early, found = await self._under_load(ground)
            found = await self._with_processes(ground, found, early)
        return self._judged(found, time.monotonic() - began)

    def _note(self, line: str) -> None:
        with (self._plan.folder / "stack.log").open("a", encoding="utf-8") as log:
            log.write(f"{run_clock():.3f} {line}\n")

    async def _under_load(self, ground: Ground) -> tuple[dict[str, Vitals], Facts]:
        stop = asyncio.Event()
        following = asyncio.create_task(ground.flight.follow(), name="flight")
        loading = asyncio.create_task(ground.load.run(stop), name="load")
        try:
            await asyncio.sleep(self._plan.warm_up_s)
            early = await _vitals(ground)
            await self._inject_all(ground)
            stop.set()
            await loading
            self._tell("healed: waiting for rest")
            await self._rest(ground)
            return early, await self._facts(ground)
        finally:
            for task in (loading, following, *self._watching):
                task.cancel()
            await asyncio.gather(loading, following, *self._watching, return_exceptions=True)

    # -- faults ---------------------------------------------------------------------------------------------------

    async def _inject_all(self, ground: Ground) -> None:
        deadline = None if self._plan.seconds is None else time.monotonic() + self._plan.seconds
        for wave in self.waves(ground, once=deadline is None):
            if deadline is not None and time.monotonic() >= deadline:
                return
            faults = [Fault(len(self._history.faults) + n, kind.name) for n, kind in enumerate(wave)]
            self._history.faults.extend(faults)
            for fault in faults:
                fault.alone = self._plan.overlap == 1
            await asyncio.gather(*(self._inject(ground, kind, fault) for kind, fault in zip(wave, faults, strict=True)))
            if self._plan.overlap == 1:
                await asyncio.gather(*self._watching)
            await asyncio.sleep(_PAUSE_S)

    def waves(self, ground: Ground, *, once: bool) -> Iterator[list[Kind]]:
        """Deal every kind once, in an order of chance, then again; no two of a wave touch the same part."""
        while True:
            deck = [ALL[name] for name in self._plan.kinds]
            self._chance.shuffle(deck)
            deck = [kind for kind in deck if not self._prevented(ground, kind)]
            while deck:
                wave = [deck.pop()]
                for kind in reversed(deck):
                    if len(wave) < self._plan.overlap and not any(kind.touches & other.touches for other in wave):
                        wave.append(kind)
                for kind in wave[1:]:
                    deck.remove(kind)
                yield wave
            if once:
                return

    def _prevented(self, ground: Ground, kind: Kind) -> bool:
        obstacle = kind.obstacle(ground)
        if obstacle and kind.name not in self._obstacles:
            self._obstacles[kind.name] = obstacle
            self._tell(f"{kind.name} cannot be injected here: {obstacle}")
        return bool(obstacle)

    async def _inject(self, ground: Ground, kind: Kind, fault: Fault) -> None:
        chance = random.Random(f"fault/{self._plan.seed}/{fault.number}")
        fault.began = run_clock()
        if self._plan.overlap > 1:
            await asyncio.sleep(chance.uniform(0, 1))
        try:
            await kind.inject(ground, Hit(fault, chance, ground.flight))
        except (NotReached, CannotMount, NatsError, TimeoutError, PyMongoError) as error:
            fault.reached = False
            fault.note += f" not reached: {error or type(error).__name__}"
            self._not_reached[kind.name] += 1
        except StackError as error:
            self._late.append(
                Violation("I8", fault.target or kind.name, f"did not come back after {kind.name}: {error}")
            )
        fault.healed = run_clock()
        aboard = frozenset(ground.flight.under_way)
        fault.bystanders |= aboard
        took = fault.healed - fault.began
        self._tell(
            f"{fault.number:5d} {kind.name} on {fault.target} {fault.note} ({fault.in_flight} in flight, {took:.1f} s)"
        )
        task = asyncio.create_task(self._watch_recovery(ground, fault, aboard), name=f"recovery {fault.number}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch_recovery(self, ground: Ground, fault: Fault, aboard: frozenset[str]) -> None:
        try:
            async with asyncio.timeout(self._plan.bound_s if fault.alone else None):
                await ground.flight.landed(aboard)
            fault.recovery_s = run_clock() - fault.healed
        except TimeoutError:
            left = sorted(aboard & ground.flight.under_way)
            what = f"not terminal {self._plan.bound_s:g} s after {fault.kind} healed, like {len(left) - 1} others"
            self._late.append(Violation("I1", left[0] if left else fault.kind, what))

    # -- rest and facts -------------------------------------------------------------------------------------------

    async def _rest(self, ground: Ground) -> None:
        """Wait until nothing moves any more, or until it should have been so: then the facts will tell."""
        await ground.back(ground.stack.children.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.bound_s):
                while await _unfinished(ground):  # noqa: ASYNC110 - it happens in other processes
                    await asyncio.sleep(0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.ack_wait_s * 2 + 10):
                while any(owed.pending or owed.unacknowledged for owed in await _consumers(ground)):  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.3)
        # nginx keeps idle connections to the api-servers for a minute; without callers they are nobody's.
        await ground.killed([ground.stack.children["nginx"]])

    async def _facts(self, ground: Ground) -> Facts:
        self._tell("reading the facts")
        return Facts(
            jobs=await facts.jobs(ground.api),
            outcomes=await facts.outcomes(ground.job),
            aside=[*await facts.set_aside(ground.api, "hasty_api"), *await facts.set_aside(ground.job, "hasty_job")],
            consumers=await _consumers(ground),
            journalled=ground.wires.journalling.journalled,
            not_journalled=ground.wires.journalling.not_journalled,
            not_journalled_example=ground.wires.journalling.example,
        )

    async def _with_processes(self, ground: Ground, found: Facts, early: dict[str, Vitals]) -> Facts:
        at_rest = await _settled_vitals(ground, early)
        processes = [
            Process(
                name=name,
                early=early.get(name),
                at_rest=at_rest.get(name),
                exits=tuple(child.exits),
                expected_exits=frozenset({0, -9} | ground.may_leave.get(name, set())),
                troubles=tuple(facts.troubles(child.log)) if child.role in SERVICES else (),
            )
            for name, child in ground.stack.children.items()
        ]
        return replace(found, processes=processes)

    def _judged(self, found: Facts, seconds: float) -> Outcome:
        plan = self._plan
        self._history.write(plan.folder / "history.jsonl")
        violations = [*self._late, *checker.judge(self._history, found, Rules(cooldown_s=plan.cooldown_s))]
        logs = plan.folder / "logs"
        stories = [story.tell(violation, self._history, found, logs) for violation in violations[:20]]
        if stories:
            (plan.folder / "violations.txt").write_text(
                "\n\n".join([*stories, *map(str, violations[20:])]), encoding="utf-8"
            )
        return Outcome(
            plan, self._history, found, violations, stories, self._obstacles, dict(self._not_reached), seconds
        )


async def hunt(plan: Plan, tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Outcome:  # noqa: T201 - that is its purpose
    """Run a plan; `tell` gets a line for every fault."""
    return await Hunt(plan, tell).run()


async def _disks(plan: Plan, opened: contextlib.AsyncExitStack) -> tuple[dict[str, Disk], str]:
    if not plan.disks:
        return {}, ""
    disks: dict[str, Disk] = {}
    for name in DISKS:
        try:
            disks[name] = disk = await Disk.mounted(plan.folder / "data" / name)
        except CannotMount as error:
            return {}, str(error)
        opened.push_async_callback(disk.unmount)
    return disks, ""


async def _vitals(ground: Ground) -> dict[str, Vitals]:
    async with httpx.AsyncClient(timeout=5) as http:
        return {child.name: await facts.vitals(http, child) for child in ground.children(*SERVICES)}


async def _settled_vitals(ground: Ground, early: dict[str, Vitals]) -> dict[str, Vitals]:
    """Read them until they are down, or long enough: connections of callers live for a while."""
    rules = Rules(cooldown_s=0)
    found = await _vitals(ground)
    for _ in range(20):
        if all(
            name not in early
            or (
                held.descriptors <= early[name].descriptors + rules.descriptor_growth
                and held.tasks <= early[name].tasks + rules.task_growth
            )
            for name, held in found.items()
        ):
            break
        await asyncio.sleep(1)
        found = await _vitals(ground)
    return found


async def _unfinished(ground: Ground) -> bool:
    return await ground.api.hasty_api.jobs.find_one({"status": "processing"}) is not None


async def _consumers(ground: Ground) -> list[Consumer]:
    try:
        return await facts.consumers(ground.stack)
    except (NatsError, OSError, TimeoutError) as error:
        return [Consumer(f"not readable: {error}", 1, 1)]
