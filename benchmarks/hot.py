"""Where the time goes: py-spy samples both services while jobs flow through them."""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import handlers
from benchmarks.accepting import submitted_to_finished, warm_up
from benchmarks.figures import Cost
from benchmarks.load import BenchmarkError, program
from benchmarks.plan import Plan
from benchmarks.proc import CpuMeter
from benchmarks.systems import NO_SLEEP, ROOT, hasty

RATE_PER_S = 200
SHOWN = 30
INSTALL = "pip install py-spy"


@dataclass(frozen=True)
class Profile:
    """The samples of one process: how many were in each function itself, and how many below it as well."""

    process: str
    samples: int
    itself: Counter[str]
    with_callees: Counter[str]


async def profile(plan: Plan, kind: str | None, *, native: bool) -> tuple[list[Profile], list[Cost], Path]:
    """Sample the services while jobs of a kind come in, or of `POST /`; the samples stay in files for other tools."""
    program("py-spy", INSTALL)  # before the stack is started for nothing
    folder = ROOT / ".hasty" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    async with hasty(environment={**NO_SLEEP, "HASTY_WORK": str(handlers.WORK)} if kind else {}) as full:
        if kind:
            await full.serves(kind)
            await handlers.finished(full, kind, plan.jobs // 2, plan)
            costs = dict((await handlers.finished(full, kind, plan.jobs, plan))[1])
            loading = asyncio.create_task(full.load_kind(kind, connections=plan.connections, seconds=plan.seconds + 2))
        else:
            await warm_up(plan, full)
            # Sampling costs time too: costs are read without it.
            costs = dict((await submitted_to_finished(full, plan))[1])
            loading = asyncio.create_task(full.load(connections=plan.connections, seconds=plan.seconds + 2))
        pids = full.pids("api-server", "job-server") | ({"child": handlers.child(full).pid} if kind else {})
        meter = CpuMeter({**full.pids(), **pids})
        profiles = await asyncio.gather(
            *[_sampled(name, pid, folder, plan.seconds, native=native) for name, pid in pids.items()]
        )
        load = await loading
        sampled = meter.us_per(load.accepted)
        await full.drained()
    return profiles, [Cost("submitted to finished", costs), Cost("while sampled", sampled)], folder


async def _sampled(name: str, pid: int, folder: Path, seconds: float, *, native: bool) -> Profile:
    await asyncio.sleep(1)
    path = folder / f"{name}.folded"
    command = [
        *(program("py-spy", INSTALL), "record", "--pid", str(pid), "--output", str(path)),
        *("--format", "raw", "--duration", str(round(seconds)), "--rate", str(RATE_PER_S)),
        "--gil",  # what waits is no work, and whether a thread waits cannot be told everywhere
        "--nonblocking",  # a process that is stopped for each sample stops mostly where it enters the system
        *(["--native"] if native else []),
    ]
    py_spy = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"}
    )
    said, _ = await py_spy.communicate()
    if py_spy.returncode != 0:
        raise BenchmarkError(f"py-spy cannot sample {name}: {said.decode().strip()}")
    return read(name, path.read_text())


def read(process: str, folded: str) -> Profile:
    """Read py-spy's raw format: `outermost (file:line);...;innermost (file:line) <samples>` a line."""
    itself: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    samples = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        samples += int(count)
        itself[frames[-1]] += int(count)
        for function in set(frames):
            with_callees[function] += int(count)
    return Profile(process, samples, itself, with_callees)


def _function(frame: str) -> str:
    """The frame without its line, and with no more of the path than tells it apart."""
    name, _, place = frame.partition(" (")
    path = place.rpartition(":")[0] or place.rstrip(")")
    return f"{name} ({'/'.join(Path(path).parts[-2:])})" if place else name


def show(console: Console, profiles: list[Profile]) -> None:
    """Print the hottest functions of each process."""
    for found in profiles:
        table = Table(title=f"{found.process}: {found.samples} samples")
        for heading in ("itself", "%", "with what it calls", "%"):
            table.add_column(heading, justify="right" if heading == "%" else "left", overflow="fold")
        rows = zip(found.itself.most_common(SHOWN), found.with_callees.most_common(SHOWN), strict=False)
        for (own, own_count), (total, total_count) in rows:
            table.add_row(
                own, f"{100 * own_count / found.samples:.1f}", total, f"{100 * total_count / found.samples:.1f}"
            )
        console.print(table)
