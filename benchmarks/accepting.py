"""Throughput: jobs accepted with the worker running and stopped, and jobs submitted to finished."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from benchmarks.audit import audit
from benchmarks.figures import Figure, Findings, compared, middle
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.proc import CpuMeter
from benchmarks.systems import System, hasty, limit

Costs = Mapping[str, float]
First = TypeVar("First")
Second = TypeVar("Second")


async def accept(plan: Plan) -> Findings:
    """201 answers per second at full load, first with the job-server running, then with it stopped."""
    async with limit() as empty, hasty() as full:
        await warm_up(plan, empty, full)
        running = Series()
        for run in range(plan.runs):
            await running.measure(run, plan, empty, full)
            await full.drained()

        worker = full.stack.children["job-server-1"]
        await worker.terminate()
        stopped = Series()
        for run in range(plan.runs):
            await stopped.measure(run, plan, empty, full)

        await worker.start()
        await worker.ready()
        await full.drained()
        await audit(full)
    return Findings(
        [
            running.figure("accept, worker running", target="0.42, then 0.50"),
            stopped.figure("accept, worker stopped", target="0.55, then 0.65"),
        ],
        [
            middle("limit", running.empty_costs),
            middle("accept, worker running", running.full_costs),
            middle("accept, worker stopped", stopped.full_costs),
        ],
    )


async def finish(plan: Plan) -> Findings:
    """Jobs per second from the first POST to the last outcome applied, against the limit's answers per second."""
    pairs, costs = [], []
    async with limit() as empty, hasty() as full:
        await warm_up(plan, empty, full)
        for run in range(plan.runs):
            (answers, _), (finished_per_s, cost) = await alternating(
                run,
                lambda: loaded(empty, plan),
                lambda: submitted_to_finished(full, plan),
            )
            pairs.append((answers.per_s, finished_per_s))
            costs.append(cost)
        await audit(full)
    figure = compared(
        "submitted to finished", "jobs/s", pairs, target="0.38, then 0.45", note=f"{plan.jobs:,} jobs a run"
    )
    return Findings([figure], [middle("submitted to finished", costs)])


@dataclass
class Series:
    """Several loads of the two systems, one after the other."""

    loads: list[tuple[Load, Load]] = field(default_factory=list)
    empty_costs: list[Costs] = field(default_factory=list)
    full_costs: list[Costs] = field(default_factory=list)

    async def measure(self, run: int, plan: Plan, empty: System, full: System) -> None:
        """Load both once."""
        (empty_load, empty_cost), (full_load, full_cost) = await alternating(
            run, lambda: loaded(empty, plan), lambda: loaded(full, plan)
        )
        self.loads.append((empty_load, full_load))
        self.empty_costs.append(empty_cost)
        self.full_costs.append(full_cost)

    def figure(self, row: str, target: str) -> Figure:
        """The throughput of the two."""
        pairs = [(empty.per_s, full.per_s) for empty, full in self.loads]
        cpu = median(
            sum(empty.values()) / sum(full.values())
            for empty, full in zip(self.empty_costs, self.full_costs, strict=True)
        )
        p50_ms = median(full.p50_ms for _, full in self.loads)
        return compared(row, "jobs/s", pairs, target=target, note=f"by CPU alone {cpu:.2f}; p50 {p50_ms:.1f} ms")


async def warm_up(plan: Plan, *systems: System) -> None:
    """Load each for a moment, so that nothing measured is a first time."""
    for system in systems:
        await system.load(connections=plan.connections, seconds=plan.warm_up_s)
    for system in systems:
        await system.drained()


async def loaded(system: System, plan: Plan) -> tuple[Load, Costs]:
    """Load a system, and read what each accepted job cost in CPU by process."""
    meter = CpuMeter(system.pids())
    load = await system.load(connections=plan.connections, seconds=plan.seconds)
    return load, meter.us_per(load.accepted)


async def submitted_to_finished(system: System, plan: Plan) -> tuple[float, Costs]:
    """Post the plan's jobs and wait for the last outcome: jobs per second, and CPU per job by process."""
    before = await system.counts()
    meter = CpuMeter(system.pids())
    began = time.monotonic()
    await system.load(connections=plan.connections, jobs=plan.jobs)
    ended = await system.drained()
    done = round((await system.counts()).applied - before.applied)
    if done < plan.jobs:
        raise BenchmarkError(f"{plan.jobs} jobs were answered 201, but the api-servers count {done} outcomes")
    return done / (ended - began), meter.us_per(done)


async def alternating(
    run: int, first: Callable[[], Awaitable[First]], second: Callable[[], Awaitable[Second]]
) -> tuple[First, Second]:
    """Do both, in the other order every other run: what drifts then favours neither."""
    if run % 2 == 0:
        return await first(), await second()
    later = await second()
    return await first(), later
