"""Ten thousand jobs in one job-server at once: those that sleep, and those of an async handler in its child."""

import asyncio
from pathlib import Path

from benchmarks.audit import audit
from benchmarks.figures import Cost, Figure, Findings
from benchmarks.load import BenchmarkError
from benchmarks.plan import Plan
from benchmarks.proc import CpuMeter, memory
from benchmarks.systems import hasty

SETTLED_S = 2
WORK = Path(__file__).with_name("work.py")
KB = 1024  # per MiB


async def hold(plan: Plan) -> Findings:  # long: one measurement, in its order
    """All jobs wait for one job-server, which takes them, sleeps with all of them at once, and ends them together.

    The worker is stopped while they are posted: begun within moments, they end within moments, which is the hardest
    way to end in time. Lateness is the last outcome, applied by the api-server, after the last begin plus the sleep.
    """
    sleep_s = plan.held_sleep_s
    environment = {
        "HASTY_JOB_CONCURRENCY": str(plan.held_jobs),
        "HASTY_JOB_SLEEP_MIN_S": f"{sleep_s:g}",
        "HASTY_JOB_SLEEP_MAX_S": f"{sleep_s:g}",
    }
    async with hasty(environment=environment) as full:
        worker = full.stack.children["job-server-1"]
        await worker.terminate()
        # wrk leaves requests under way when it ends, so the last few are posted one by one: no more than it holds.
        await full.load(connections=plan.connections, jobs=plan.held_jobs - 2 * plan.connections)
        await asyncio.sleep(SETTLED_S)
        await full.post(plan.held_jobs - round((await full.counts()).accepted))
        await worker.start()
        await worker.ready()
        pid = full.pids("job-server")[worker.name]

        last_begun = await full.reached("all begun", lambda counts: counts.started >= plan.held_jobs)
        if (held := (await full.counts()).held) < plan.held_jobs:
            raise BenchmarkError(f"only {held:g} jobs were held at once: the sleep of {sleep_s:g} s is too short")
        meter = CpuMeter(full.pids())
        await asyncio.sleep(sleep_s / 2)
        holding_mb = memory(pid).rss_mb
        costs = meter.us_per(round(plan.held_jobs * sleep_s / 2))
        last_applied = await full.reached("all ended", lambda counts: counts.applied >= plan.held_jobs)
        await audit(full)

        await worker.terminate()
        await worker.start()
        await worker.ready()
        await asyncio.sleep(SETTLED_S)
        idle_mb = memory(full.pids("job-server")[worker.name]).rss_mb
    return Findings(
        [
            Figure(
                f"{plan.held_jobs:,} jobs held, last outcome after the sleep",
                "s",
                last_applied - last_begun - sleep_s,
                target="3",
                note=f"sleep {sleep_s:g} s, ack wait 50 s",
            ),
            Figure(
                "memory of one held job",
                "KB",
                (holding_mb - idle_mb) * KB / plan.held_jobs,
                note=f"job-server {idle_mb:.0f} MB idle, {holding_mb:.0f} MB holding",
            ),
        ],
        [Cost("held, a second", costs)],
    )


async def hold_handlers(plan: Plan) -> Findings:
    """One job-server and its child hold all jobs of an async handler; they were posted while neither ran.

    Lateness is the last outcome, applied by the api-server, after the last begin plus the sleep.
    """
    sleep_s = plan.held_sleep_s
    # wrk leaves requests under way when it ends: some more jobs than were wanted may have been accepted.
    slots = plan.held_jobs + 4 * plan.connections
    environment = {
        "HASTY_WORK": str(WORK),
        "HASTY_ASYNC_SLOTS": str(slots),
        "BENCHMARK_SLEEP_S": f"{sleep_s:g}",
    }
    async with hasty(environment=environment) as full:
        await full.serves("sleeper")
        worker = full.stack.children["job-server-1"]
        await worker.terminate()
        await full.load_kind("sleeper", connections=plan.connections, jobs=plan.held_jobs)
        await asyncio.sleep(SETTLED_S)
        jobs = round((await full.counts()).accepted)
        await worker.start()
        await worker.ready()
        last_begun = await full.reached("all begun", lambda counts: counts.started >= jobs)
        if (held := (await full.counts()).held) < jobs:
            raise BenchmarkError(
                f"only {held:g} of {jobs} jobs were held at once: the sleep of {sleep_s:g} s is too short"
            )
        last_applied = await full.reached("all ended", lambda counts: counts.applied >= jobs)
    name = f"{jobs:,} jobs of an async handler held, last outcome after the sleep"
    late_s = last_applied - last_begun - sleep_s
    return Findings([Figure(name, "s", late_s, target="3", note=f"sleep {sleep_s:g} s")], [])
