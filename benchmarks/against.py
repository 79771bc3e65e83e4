"""Two checkouts of Hasty, in turn: what the one costs beside the other, within a few percent.

Both systems run all the time, and get short loads one after the other: what drifts on a shared machine drifts for both.
The other checkout may be of any version since 0.1: all that is used of its benchmarks is `PART`'s imports.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Findings, compared, middle
from benchmarks.load import BenchmarkError

HERE = Path(__file__).resolve().parent.parent
SITUATIONS = {
    "running": "accept, worker running",
    "stopped": "accept, worker stopped",
    "finish": "submitted to finished",
}
JOBS = 4_000
SECONDS = {"running": 8, "stopped": 2}
"""A load with the job-server running is longer: the sooner it ends jobs, the fewer are accepted in a short one."""

PART = f"""
import asyncio, json, sys
from dataclasses import replace
from benchmarks.accepting import loaded, submitted_to_finished, warm_up
from benchmarks.plan import Plan
from benchmarks.systems import hasty

seconds = {SECONDS}

async def main():
    plan = Plan(runs=1, warm_up_s=1, jobs={JOBS})
    async with hasty() as full:
        await warm_up(plan, full)
        worker = full.stack.children["job-server-1"]
        print("[]", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            answer = []
            if line == "stop":
                await worker.terminate()
            elif line == "start":
                await worker.start()
                await worker.ready()
                await full.drained()
            elif line in seconds:
                load, cost = await loaded(full, replace(plan, seconds=seconds[line]))
                answer = [load.per_s, dict(cost)]
                if line == "running":
                    await full.drained()
            else:
                answer = [*await submitted_to_finished(full, plan)]
            print(json.dumps(answer), flush=True)

asyncio.run(main())
"""


class Checkout:
    """A system that runs from a checkout."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> "AsyncIterator[Checkout]":
        """Start it; it is ready at its first answer, and ends with its input."""
        python = folder / ".venv" / "bin" / "python"
        if not python.exists():
            raise BenchmarkError(f"there is no {python}: run `make install` in {folder}")
        process = await asyncio.create_subprocess_exec(
            *(python, "-P", "-c", PART),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self = cls(process, folder)
        try:
            await self._answer()
            yield self
        finally:
            with contextlib.suppress(ConnectionError):
                await self._send("")
            await process.wait()

    async def ask(self, what: str) -> Any:
        """Have something done, and return what it said of it."""
        await self._send(what)
        return await self._answer()

    async def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def _answer(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - likewise
        line = await self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"what runs in {self._folder} has ended")
        return json.loads(line)


async def against(other: Path, rounds: int) -> Findings:
    """Measure this checkout beside another one: jobs per second, and CPU per job by process."""
    findings = Findings()
    async with Checkout.running(other) as theirs, Checkout.running(HERE) as ours:
        for what, row in SITUATIONS.items():
            if what == "stopped":
                await asyncio.gather(theirs.ask("stop"), ours.ask("stop"))
            pairs, their_costs, our_costs = [], [], []
            for number in range(rounds):
                order = (theirs, ours) if number % 2 == 0 else (ours, theirs)
                found = {id(one): await one.ask(what) for one in order}
                (their_s, their_cost), (our_s, our_cost) = found[id(theirs)], found[id(ours)]
                pairs.append((their_s, our_s))
                their_costs.append(their_cost)
                our_costs.append(our_cost)
            if what == "stopped":
                await asyncio.gather(theirs.ask("start"), ours.ask("start"))
            findings.figures.append(compared(row, "jobs/s", pairs, note=f"{rounds} rounds"))
            findings.costs += [middle(f"{row}, there", their_costs), middle(f"{row}, here", our_costs)]
    return findings
