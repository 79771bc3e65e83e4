"""`python -m tests.chaos run` injects faults into a stack of its own; `report` writes docs/faults.md."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos import figures, report, three_nodes, three_nodes_report
from tests.chaos.chaos_run import run_plan
from tests.chaos.faults import ALL
from tests.chaos.plan import Plan
from tests.chaos.recovery import measure

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def run(  # noqa: PLR0913 - each is an option of the command line
    *,
    seed: Annotated[int, typer.Option(help="Everything left to chance comes from it.")] = 1,
    minutes: Annotated[float, typer.Option(help="Begin no fault after this long.")] = 5,
    overlap: Annotated[int, typer.Option(help="How many faults are injected side by side.", min=1, max=6)] = 1,
    rate: Annotated[float, typer.Option(help="Requests a second to `POST /`.")] = 50,
    task_rate: Annotated[float, typer.Option(help="Jobs for handlers a second, besides; 0 for none.")] = 12,
    overdue_s: Annotated[float, typer.Option(help="HASTY_OVERDUE_S of the services.")] = 10,
    cooldown_s: Annotated[float, typer.Option(help="HASTY_COOLDOWN_S of the services.")] = 8,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds, or those that begin so.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where data, logs and the history go; emptied by nobody.")] = None,
    results: Annotated[Path | None, typer.Option(help="Keep the figures there, for `report`.")] = None,
) -> None:
    """Inject fault after fault under load, judge at the end; exit code 1 when an invariant was broken."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    chosen = [name for name in ALL if not kind or any(name.startswith(wanted) for wanted in kind)]
    plan = Plan(
        seed=seed,
        seconds=minutes * 60,
        folder=folder or Path(tempfile.mkdtemp(prefix=f"hasty-faults-{seed}-")),
        kinds=chosen,
        overlap=overlap,
        rate=rate,
        task_rate=task_rate,
        overdue_s=overdue_s,
        cooldown_s=cooldown_s,
        commands=figures.COMMANDS,
    )
    typer.echo(f"seed {seed}: {minutes:g} minutes in {plan.folder}", err=True)
    outcome = asyncio.run(run_plan(plan, lambda line: typer.echo(line, err=True)))
    typer.echo(figures.summary(outcome))
    for told in outcome.timelines:
        typer.echo(f"\n{told}")
    if results is not None:
        figures.keep(outcome, results)
    raise typer.Exit(1 if outcome.violations else 0)


@app.command()
def recovery(
    times: Annotated[int, typer.Option(help="Measure each so often.", min=1)] = 10,
    results: Annotated[Path, typer.Option(help="Keep the figures there, for `report`.")] = figures.RESULTS,
) -> None:
    """Measure how soon work goes on after a fault, with default settings apart from HASTY_ACK_WAIT_S=5."""
    found = asyncio.run(measure(Path(tempfile.mkdtemp(prefix="hasty-recovery-")), times))
    for name, seconds in found.items():
        typer.echo(f"{name}: {seconds}")
    figures.keep_recovery(found, results)


@app.command(name="three-nodes")
def measure_three_nodes(
    times: Annotated[int, typer.Option(help="Measure each so often.", min=1)] = 5,
    results: Annotated[Path, typer.Option(help="Keep the figures there, for `report`.")] = figures.RESULTS,
) -> None:
    """Measure for how long no job is done while a server of a three-node NATS cluster is away."""
    found = asyncio.run(three_nodes.measure(Path(tempfile.mkdtemp(prefix="hasty-three-nodes-")), times))
    for name, seconds in found.items():
        typer.echo(f"{name}: {seconds}")
    three_nodes_report.keep(found, results)


@app.command(name="report")
def write_report(
    results: Annotated[Path, typer.Option(help="The folder `run --results` wrote to.")] = figures.RESULTS,
    page: Annotated[Path, typer.Option(help="The page to write.")] = figures.PAGE,
) -> None:
    """Write docs/faults.md from the results that were kept: measured figures and nothing else."""
    runs = figures.load(results)
    page.write_text(
        report.page(
            runs,
            figures.load_recovery(results),
            figures.load(results / "before"),
            three_nodes_report.section(three_nodes_report.load(results)),
        ),
        encoding="utf-8",
    )
    typer.echo(f"{page} tells of {len(runs)} runs: {report.totals(runs)}")


if __name__ == "__main__":
    app()
