"""Memory of each process: idle, and under the accept load."""

import asyncio

from benchmarks.audit import audit
from benchmarks.figures import Figure, Findings
from benchmarks.plan import Plan
from benchmarks.systems import hasty

IDLE_AFTER_S = 5
SERVICES = ("api-server-1", "job-server-1")


async def memory(plan: Plan) -> Findings:
    """RSS and PSS of every process, before any job and at the end of a load."""
    async with hasty() as full:
        await asyncio.sleep(IDLE_AFTER_S)
        idle = full.memory()
        loading = asyncio.create_task(full.load(connections=plan.connections, seconds=2 * plan.seconds))
        await asyncio.sleep(2 * plan.seconds - 1)
        loaded = full.memory()
        await loading
        await full.drained()
        await audit(full)
    figures = []
    for when, usage in (("idle", idle), ("loaded", loaded)):
        both = [usage[name] for name in SERVICES]
        figures.append(
            Figure(
                f"memory {when}, api-server and job-server",
                "MB RSS",
                hasty=sum(process.rss_mb for process in both),
                target="105, then 90" if when == "idle" else "",
                note=f"{sum(process.pss_mb for process in both):.0f} MB PSS",
            )
        )
    figures += [
        Figure(f"memory of {name}", "MB RSS", loaded[name].rss_mb, note=f"idle {idle[name].rss_mb:.0f} MB")
        for name in idle
    ]
    return Findings(figures)
