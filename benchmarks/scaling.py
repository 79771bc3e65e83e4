"""What changes with the broker's syncs, with more api-servers and with more job-servers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.accepting import Costs, alternating, loaded, submitted_to_finished, warm_up
from benchmarks.audit import audit
from benchmarks.figures import Findings, compared
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.systems import ROOT, System, hasty
from hasty.server.local_stack import probes
from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.programs import find

NATS_START_S = 10
NATS_CONFIG = 'listen: "{listen}"\nhttp: "{monitor}"\njetstream {{ store_dir: "{store}" }}\n'


async def syncs(plan: Plan) -> Findings:
    """The broker with its own default, a sync every two minutes, beside `sync_interval: always`."""
    async with lazy_nats() as nats_url, hasty() as always, hasty(nats_url=nats_url) as lazy:
        return await _side_by_side(plan, "sync_interval default over always", always, lazy)


async def api_servers(plan: Plan) -> Findings:
    """Two api-servers beside one."""
    async with hasty() as one, hasty(api_servers=2) as two:
        return await _side_by_side(plan, "2 api-servers over 1", one, two)


async def job_servers(plan: Plan) -> Findings:
    """Two and four job-servers beside one; jobs that do not sleep are all overhead, so there is little to share."""
    finished: Mapping[int, list[float]] = {1: [], 2: [], 4: []}
    async with hasty() as full:
        await warm_up(plan, full)
        for run in range(plan.runs):
            for count in sorted(finished, reverse=run % 2 == 1):
                await full.stack.scale("job-server", count)
                per_s, _ = await submitted_to_finished(full, plan)
                finished[count].append(per_s)
        await audit(full)
    return Findings(
        [
            compared(
                f"{count} job-servers over 1: finished", "jobs/s", list(zip(finished[1], finished[count], strict=True))
            )
            for count in (2, 4)
        ]
    )


@asynccontextmanager
async def lazy_nats() -> AsyncIterator[str]:
    """A broker as it is when nobody configures its syncs; its URL."""
    port, monitor = Port(), Port()
    (ROOT / ".hasty").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=ROOT / ".hasty", prefix="bench-nats-") as name:
        config = Path(name) / "nats.conf"
        config.write_text(NATS_CONFIG.format(listen=port.address, monitor=monitor.address, store=name))
        server = await asyncio.create_subprocess_exec(
            find("nats-server"), "--config", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(NATS_START_S):
                while await probes.http(monitor.number, "/healthz") is not None:
                    if server.returncode is not None:
                        raise BenchmarkError(f"nats-server ended with {server.returncode}")
                    await asyncio.sleep(0.05)
            yield f"nats://{port.address}"
        finally:
            if server.returncode is None:
                server.terminate()
            await server.wait()
            port.close()
            monitor.close()


async def _accept(system: System, plan: Plan) -> tuple[Load, Costs]:
    result = await loaded(system, plan)
    await system.drained()
    return result


async def _side_by_side(plan: Plan, row: str, first: System, second: System) -> Findings:
    accepted, finished = [], []
    await warm_up(plan, first, second)
    for run in range(plan.runs):
        (load, _), (other, _) = await alternating(run, lambda: _accept(first, plan), lambda: _accept(second, plan))
        accepted.append((load.per_s, other.per_s))
        (per_s, _), (other_per_s, _) = await alternating(
            run, lambda: submitted_to_finished(first, plan), lambda: submitted_to_finished(second, plan)
        )
        finished.append((per_s, other_per_s))
    for system in (first, second):
        await audit(system)
    return Findings([compared(f"{row}: accept", "jobs/s", accepted), compared(f"{row}: finished", "jobs/s", finished)])
