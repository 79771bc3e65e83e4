"""One run: a stack of its own under load, fault after fault from a seeded schedule, then rest, facts and judgement."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Final

import httpx
from nats.errors import Error as NatsError
from pymongo.errors import PyMongoError

from hasty.server.local_stack import Stack, StackConfig, StackError
from tests.chaos import checker, facts, timeline, turns
from tests.chaos.callers import Callers
from tests.chaos.checker import Consumer, Facts, Process, Rules, Violation, Vitals
from tests.chaos.disks import CannotMount, Disk
from tests.chaos.evidence import read_runs
from tests.chaos.faults import ALL
from tests.chaos.history import Fault, History, run_clock
from tests.chaos.load import Flight, Load
from tests.chaos.plan import Outcome, Plan
from tests.chaos.proxies import Proxy
from tests.chaos.system import SERVICES, FaultKind, Injection, NotReached, Proxies, System
from tests.chaos.task_load import TaskLoad

_PAUSE_S: Final = 0.3
_LOOK_AHEAD: Final = 8
"""So many faults wait for their turn: one that touches much gets it when all others that wait touch the same."""
DISKS: Final = ("nats", "api-mongo", "job-mongo")


class ChaosRun:
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

    async def run(self) -> Outcome:  # long: everything that a run opens, in its order
        """Run it from the first process to the last verdict."""
        began = time.monotonic()
        plan = self._plan
        faults_folder = plan.folder / "faults"
        faults_folder.mkdir(parents=True, exist_ok=True)
        plan.runs_folder.mkdir(exist_ok=True)
        async with contextlib.AsyncExitStack() as opened:
            disks, no_disks = await _disks(plan, opened)
            proxies = Proxies()
            opened.push_async_callback(proxies.close)
            config = StackConfig(
                folder=plan.folder,
                api_servers=plan.api_servers,
                job_servers=plan.job_servers,
                environment=plan.settings(faults_folder),
                commands=plan.commands,
                wire=proxies.proxy,
                restart_pause_s=0.1,
                log_limit_bytes=2**31,
            )
            stack = await opened.enter_async_context(Stack.running(config, tell=self._note))
            api = await opened.enter_async_context(facts.database(stack, "api-mongo"))
            job = await opened.enter_async_context(facts.database(stack, "job-mongo"))
            flight = Flight(api.hasty_api.jobs)
            host, _, port = stack.url.removeprefix("http://").rpartition(":")
            caller = Proxy("callers", "nginx", (host, int(port)))
            address = caller.listen()
            opened.push_async_callback(caller.close)
            host, _, port = address.rpartition(":")
            callers = Callers(host, int(port), connect_within_s=4, answer_within_s=12)
            chance = random.Random(f"load/{plan.seed}")
            load = Load(callers, self._history, flight, chance, plan.rate, f"s{plan.seed}")
            system = System(
                stack=stack,
                api=api,
                job=job,
                proxies=proxies,
                caller=caller,
                history=self._history,
                flight=flight,
                load=load,
                tasks=TaskLoad(
                    *(callers, self._history, flight, chance, plan.task_rate, f"s{plan.seed}"), plan.cancelled_part
                ),
                faults_folder=faults_folder,
                data=plan.folder / "data",
                ack_wait_s=plan.ack_wait_s,
                silence_s=plan.silence_s,
                disks=disks,
                no_disks=no_disks,
            )
            early, found = await self._under_load(system)
            found = await self._with_processes(system, found, early)
        # Only now: it takes long, and the proxies stand still meanwhile.
        found = replace(found, runs=read_runs(plan.runs_folder))
        return self._judged(found, time.monotonic() - began)

    def _note(self, line: str) -> None:
        with (self._plan.folder / "stack.log").open("a", encoding="utf-8") as log:
            log.write(f"{run_clock():.3f} {line}\n")

    async def _under_load(self, system: System) -> tuple[dict[str, Vitals], Facts]:
        stop = asyncio.Event()
        following = asyncio.create_task(system.flight.follow(), name="flight")
        loading = asyncio.create_task(_load(system, stop), name="load")
        try:
            await _kinds_known(system, self._plan)
            await asyncio.sleep(self._plan.warm_up_s)
            early = await _vitals(system)
            await self._inject_all(system)
            await asyncio.gather(*system.open_faults)
            stop.set()
            await loading
            self._tell("healed: waiting for rest")
            await self._rest(system)
            return early, await self._facts(system)
        finally:
            for task in (loading, following, *self._watching):
                task.cancel()
            await asyncio.gather(loading, following, *self._watching, return_exceptions=True)

    # -- faults ---------------------------------------------------------------------------------------------------

    async def _inject_all(self, system: System) -> None:
        """Keep as many faults in force as the plan wants, each as soon as what it touches is left alone."""
        deadline = None if self._plan.seconds is None else time.monotonic() + self._plan.seconds
        supply = self.deal(system, once=deadline is None)
        waiting: list[tuple[int, FaultKind]] = []
        active: dict[asyncio.Task[None], FaultKind] = {}
        while deadline is None or time.monotonic() < deadline:
            waiting += islice(supply, max(_LOOK_AHEAD - len(waiting), 0))
            chosen = next_fault(waiting, active.values()) if len(active) < self._plan.overlap else None
            if chosen is not None:
                waiting.remove(chosen)
                active[self._begin(system, *chosen)] = chosen[1]
                await self._pause(active)
            elif active:
                done, _ = await asyncio.wait(active, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del active[task]
                    task.result()
            else:
                return
        await asyncio.gather(*active)

    def deal(self, system: System, *, once: bool) -> Iterator[tuple[int, FaultKind]]:
        """Deal every kind once, in an order of chance, then again, and number them."""
        numbers = count()
        while True:
            deck = [ALL[name] for name in self._plan.kinds]
            self._chance.shuffle(deck)
            deck = [kind for kind in deck if not self._prevented(system, kind)]
            yield from ((next(numbers), kind) for kind in deck)
            if once or not deck:
                return

    def _begin(self, system: System, number: int, kind: FaultKind) -> asyncio.Task[None]:
        fault = Fault(number, kind.name, alone=self._plan.overlap == 1)
        self._history.faults.append(fault)
        return asyncio.create_task(self._inject(system, kind, fault), name=f"fault {number}")

    async def _pause(self, active: dict[asyncio.Task[None], FaultKind]) -> None:
        """Have a fault recover alone where the plan wants it, and leave the system alone from time to time."""
        is_quiet = len(self._history.faults) % self._plan.quiet_every == 0
        if self._plan.overlap == 1 or is_quiet:
            await asyncio.gather(*active)
            active.clear()
        if self._plan.overlap == 1:
            await asyncio.gather(*self._watching)
        await asyncio.sleep(self._plan.quiet_s if is_quiet else _PAUSE_S)

    def _prevented(self, system: System, kind: FaultKind) -> bool:
        obstacle = kind.obstacle(system)
        if obstacle and kind.name not in self._obstacles:
            self._obstacles[kind.name] = obstacle
            self._tell(f"{kind.name} cannot be injected here: {obstacle}")
        return bool(obstacle)

    async def _inject(self, system: System, kind: FaultKind, fault: Fault) -> None:
        chance = random.Random(f"fault/{self._plan.seed}/{fault.number}")
        fault.began = run_clock()
        if self._plan.overlap > 1:
            await asyncio.sleep(chance.uniform(0, 1))
        try:
            await kind.inject(system, Injection(fault, chance, system.flight))
        except (NotReached, CannotMount, NatsError, OSError, PyMongoError) as error:
            fault.reached = False
            fault.note += f" not reached: {error or type(error).__name__}"
            self._not_reached[kind.name] += 1
        except StackError as error:
            self._late.append(
                Violation("I8", fault.target or kind.name, f"did not come back after {kind.name}: {error}")
            )
        fault.healed = run_clock()
        aboard = frozenset(system.flight.under_way)
        fault.bystanders |= aboard
        took = fault.healed - fault.began
        self._tell(
            f"{fault.number:5d} {kind.name} on {fault.target} {fault.note} ({fault.in_flight} in flight, {took:.1f} s)"
        )
        task = asyncio.create_task(self._watch_recovery(system, fault, aboard), name=f"recovery {fault.number}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch_recovery(self, system: System, fault: Fault, aboard: frozenset[str]) -> None:
        try:
            async with asyncio.timeout(self._plan.bound_s if fault.alone else None):
                await system.flight.landed(aboard)
            fault.recovery_s = run_clock() - fault.healed
        except TimeoutError:
            left = sorted(aboard & system.flight.under_way)
            what = f"not terminal {self._plan.bound_s:g} s after {fault.kind} healed, like {len(left) - 1} others"
            self._late.append(Violation("I1", left[0] if left else fault.kind, what))

    # -- rest and facts -------------------------------------------------------------------------------------------

    async def _rest(self, system: System) -> None:
        """Wait until nothing moves any more, or until it should have been so: then the facts will tell."""
        await system.back(system.stack.children.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.bound_s):
                while await _unfinished(system):  # noqa: ASYNC110 - it happens in other processes
                    await asyncio.sleep(0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.ack_wait_s * 2 + 10):
                while any(owed.pending or owed.unacknowledged for owed in await _consumers(system)):  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.3)
        # nginx keeps idle connections to the api-servers for a minute; without callers they are nobody's.
        await system.killed([system.stack.children["nginx"]])

    async def _facts(self, system: System) -> Facts:
        self._tell("reading the facts")
        return Facts(
            jobs=await facts.jobs(system.api),
            outcomes=await facts.outcomes(system.job),
            tasks=await facts.tasks(system.api),
            endings=await facts.endings(system.job),
            dead_letters=[
                *await facts.dead_letters(system.api, "hasty_api"),
                *await facts.dead_letters(system.job, "hasty_job"),
            ],
            consumers=await _consumers(system),
            journalled=system.proxies.journalling.journalled,
            not_journalled=system.proxies.journalling.not_journalled,
            not_journalled_example=system.proxies.journalling.example,
        )

    async def _with_processes(self, system: System, found: Facts, early: dict[str, Vitals]) -> Facts:
        at_rest = await _vitals_at_rest(system, early)
        processes = [
            Process(
                name=name,
                early=early.get(name),
                at_rest=at_rest.get(name),
                exits=tuple(child.exits),
                expected_exits=frozenset({0, -9} | system.may_leave.get(name, set())),
                troubles=tuple(facts.troubles(child.log)) if child.role in SERVICES else (),
            )
            for name, child in system.stack.children.items()
        ]
        return replace(found, processes=processes)

    def _judged(self, found: Facts, seconds: float) -> Outcome:
        plan = self._plan
        self._history.write(plan.folder / "history.jsonl")
        rules = Rules(cooldown_s=plan.cooldown_s, fault_grace_s=plan.fault_grace_s)
        violations = [*self._late, *checker.judge(self._history, found, rules)]
        violations += turns.judge(self._history, found, rules)
        logs = plan.folder / "logs"
        timelines = [timeline.tell(violation, self._history, found, logs) for violation in violations[:20]]
        if timelines:
            (plan.folder / "violations.txt").write_text(
                "\n\n".join([*timelines, *map(str, violations[20:])]), encoding="utf-8"
            )
        return Outcome(
            plan, self._history, found, violations, timelines, self._obstacles, dict(self._not_reached), seconds
        )


def next_fault(waiting: Sequence[tuple[int, FaultKind]], active: Iterable[FaultKind]) -> tuple[int, FaultKind] | None:
    """Return the first one that touches nothing that is touched already."""
    touched = frozenset[str]().union(*(kind.touches for kind in active))
    return next((one for one in waiting if not one[1].touches & touched), None)


async def run_plan(plan: Plan, tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Outcome:  # noqa: T201 - that is its purpose
    """Run a plan; `tell` gets a line for every fault."""
    return await ChaosRun(plan, tell).run()


async def _load(system: System, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(system.load.run(stop), name="root load")
        group.create_task(system.tasks.run(stop), name="task load")
    system.load.callers.close()


async def _kinds_known(system: System, plan: Plan) -> None:
    """Wait until the handlers were announced: until then their kinds are unknown."""
    async with asyncio.timeout(60):
        while plan.task_rate and not await _is_known(system, "versioned"):  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.2)


async def _is_known(system: System, kind: str) -> bool:
    answer = await system.load.callers.get("/v1/kinds")
    return any(one["name"] == kind and one["workers"] for one in answer.json()["data"])


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


async def _vitals(system: System) -> dict[str, Vitals]:
    """Read them of all services that answer."""
    found: dict[str, Vitals] = {}
    async with httpx.AsyncClient(timeout=5) as http:
        for child in system.children(*SERVICES):
            with contextlib.suppress(httpx.TransportError):
                found[child.name] = await facts.vitals(http, child)
    return found


async def _vitals_at_rest(system: System, early: dict[str, Vitals]) -> dict[str, Vitals]:
    """Read them until they are down, or long enough: connections of callers live for a while."""
    rules = Rules(cooldown_s=0)
    await system.back(system.children(*SERVICES))
    found = await _vitals(system)
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
        found = await _vitals(system)
    return found


async def _unfinished(system: System) -> bool:
    return await system.api.hasty_api.jobs.find_one({"status": "processing"}) is not None


async def _consumers(system: System) -> list[Consumer]:
    try:
        return await facts.consumers(system.stack)
    except (NatsError, OSError, TimeoutError) as error:
        return [Consumer(f"not readable: {error}", 1, 1)]
