"""Handlers: jobs per second from the first POST to the last outcome, for each way of running; memory of a child."""

import time
from pathlib import Path

import psutil

from benchmarks.accepting import alternating, loaded
from benchmarks.figures import Figure, Findings, compared, middle
from benchmarks.load import BenchmarkError
from benchmarks.outputs import check_outputs
from benchmarks.plan import Plan
from benchmarks.proc import CpuMeter
from benchmarks.systems import NO_SLEEP, System, hasty, limit

WORK = Path(__file__).with_name("work.py")
KINDS = {"greet": ("async", "0.33", 1), "greet_thread": ("thread", "0.25", 1), "greet_process": ("process", "0.10", 4)}
COMMAND_SHARE = 20
"""A command costs a process: so many times fewer of them are measured."""


async def handlers(plan: Plan) -> Findings:
    """Jobs of handlers, submitted to finished, against the limit's answers per second."""
    environment = {**NO_SLEEP, "HASTY_WORK": str(WORK)}
    findings = Findings()
    async with limit() as empty, hasty(environment=environment) as full:
        await full.serves("greet")
        for kind, (way, target, share) in KINDS.items():
            pairs, costs = [], []
            await finished(full, kind, max(plan.jobs // share // 10, 1), plan)
            for run in range(plan.runs):
                (answers, _), (per_s, cost) = await alternating(
                    run,
                    lambda: loaded(empty, plan),
                    lambda kind=kind, share=share: finished(full, kind, plan.jobs // share, plan),  # type: ignore[misc]
                )
                pairs.append((answers.per_s, per_s))
                costs.append(cost)
            note = f"{plan.jobs // share:,} jobs a run"
            findings.figures.append(compared(f"{way} handler, finished", "jobs/s", pairs, target=target, note=note))
            findings.costs.append(middle(f"{way} handler", costs))
        per_s, _ = await finished(full, "greet_command", plan.jobs // COMMAND_SHARE, plan)
        findings.figures.append(Figure("command handler, finished", "jobs/s", per_s))
        findings.figures.append(Figure("memory of a child", "MB", child_mb(full), target="40", note="after the load"))
    return findings


async def finished(system: System, kind: str, jobs: int, plan: Plan) -> tuple[float, dict[str, float]]:
    """Post jobs of a kind and wait for the last outcome: jobs per second, and CPU per job by process."""
    before = await system.counts()
    meter = CpuMeter({**system.pids(), "child": child(system).pid})
    began = time.monotonic()
    load = await system.load_kind(kind, connections=plan.connections, jobs=jobs)
    ended = await system.drained()
    done = round((await system.counts()).applied - before.applied)
    if done < jobs:
        raise BenchmarkError(f"{jobs} jobs were answered 201, but the api-servers count {done} outcomes")
    costs = dict(meter.us_per(done))
    await check_outputs(system, kind, load)  # after all that is measured
    return done / (ended - began), costs


def child(system: System) -> psutil.Process:
    """The child process with the handlers."""
    [job_server] = system.pids("job-server").values()
    [found] = psutil.Process(job_server).children()
    return found


def child_mb(system: System) -> float:
    """Its memory, in MB."""
    return float(child(system).memory_info().rss / 1e6)
