"""What a caller waits while another one floods the same server."""

import asyncio
import time
from secrets import token_hex
from statistics import median

import httpx

from benchmarks.figures import Findings, compared
from benchmarks.latency import percentile
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.systems import System, hasty

FLOODS = (1000, 5000)
# wrk calls from 127.0.0.1; to nginx every other address of the loopback network is another caller.
QUIET_ADDRESS = "127.0.0.2"
PAUSE_S = 0.02
UNDER_WAY_S = 2.0


async def fairness(plan: Plan) -> Findings:
    """A caller posts one job after the other, alone and beside 1,000 and 5,000 connections of another address."""
    async with hasty() as full:
        alone = [await quiet_caller(full, plan.seconds) for _ in range(plan.runs)]
        figures = []
        for connections in FLOODS:
            pairs = []
            notes = []
            for run in range(plan.runs):
                flood, waits = await beside_flood(full, connections, plan.seconds)
                pairs.append((median(alone[run]), median(waits)))
                notes.append((percentile(waits, 99), flood))
            p99 = median(p99 for p99, _ in notes)
            floods = [flood for _, flood in notes]
            note = (
                f"p99 {p99:.0f} ms; the flood: {median(flood.per_s for flood in floods):,.0f} jobs/s,"
                f" p50 {median(flood.p50_ms for flood in floods):.0f} ms,"
                f" {median(flood.refused / flood.seconds for flood in floods):,.0f} refusals/s"
            )
            figures.append(compared(f"one POST beside {connections:,} connections of another", "ms", pairs, note=note))
        await full.drained()
    return Findings(figures)


async def beside_flood(system: System, connections: int, seconds: float) -> tuple[Load, list[float]]:
    """Flood the system from one address; the flood, and how long the other caller waited each time, in ms."""
    async with asyncio.TaskGroup() as tasks:
        flood = system.load(connections=connections, seconds=seconds + 2 * UNDER_WAY_S, may_be_refused=True)
        flooding = tasks.create_task(flood)
        await asyncio.sleep(UNDER_WAY_S)
        waits = await quiet_caller(system, seconds)
    return flooding.result(), waits


async def quiet_caller(system: System, seconds: float) -> list[float]:
    """Post one job after the other from an address of its own; how long each took, in ms.

    Raises:
        BenchmarkError: a request was refused.
    """
    prefix = token_hex(6)
    waits: list[float] = []
    until = time.monotonic() + seconds
    transport = httpx.AsyncHTTPTransport(local_address=QUIET_ADDRESS)
    async with httpx.AsyncClient(transport=transport, timeout=30) as http:
        while time.monotonic() < until:
            began = time.perf_counter()
            answer = await http.post(system.stack.url, json={"object_id": f"{prefix}-{len(waits)}"})
            waits.append((time.perf_counter() - began) * 1000)
            if answer.status_code != httpx.codes.CREATED:
                raise BenchmarkError(f"the quiet caller was answered {answer.status_code}: {answer.text}")
            await asyncio.sleep(PAUSE_S)
    return waits
