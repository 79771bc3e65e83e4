"""`hasty top`: the system at a glance, once a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from hasty.cli.exits import DONE
from hasty.cli.options import of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from rich.console import RenderableType

    from hasty.client import Hasty, Job, Kind, Overview, Quantiles, Worker

LOOK_EVERY_S: Final = 1.0
JOBS: Final = 200
"""So many unfinished jobs are looked at, of which those that run are shown."""

SHOWN: Final = 12
"""So many of them at most: what is below them is cut off on a small screen."""


@dataclass(frozen=True)
class Picture:
    """What is shown."""

    overview: Overview
    workers: Sequence[Worker]
    kinds: Sequence[Kind]
    running: Sequence[Job]


@click.command()
@of_a_server
def top(*, as_json: bool, url: str | None, profile: str | None) -> None:
    """Show the system full screen, until Ctrl-C.

    It is updated once a second; in a pipe, shown once.
    """
    from rich.console import Console

    from hasty.cli.output import print_json
    from hasty.cli.server import connect

    console = Console(no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
    with connect(url, profile) as client:
        picture = _taken(client)
        if as_json:
            print_json(picture.overview)
        elif not console.is_terminal:
            console.print(drawn(picture, client.url))
        else:
            _follow(client, picture)
    sys.exit(DONE)


def _follow(client: Hasty, picture: Picture) -> None:
    from rich.console import Console
    from rich.live import Live

    from hasty.client import HastyError

    console = Console(no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
    taken_at = time.monotonic()
    try:
        with Live(drawn(picture, client.url), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(LOOK_EVERY_S)
                try:
                    picture, taken_at, trouble = _taken(client), time.monotonic(), ""
                except HastyError as error:
                    trouble = f"{error}; this is {time.monotonic() - taken_at:.0f} s old"
                live.update(drawn(picture, client.url, trouble), refresh=True)
    except KeyboardInterrupt:
        return


def _taken(client: Hasty) -> Picture:
    unfinished = client.jobs(status="processing", limit=JOBS)
    running = [job for job in unfinished if job.phase in {"running", "cancelling"}]
    return Picture(client.overview(), client.workers(), client.kinds(), running)


def drawn(picture: Picture, url: str, trouble: str = "") -> RenderableType:
    """Draw everything; what does not fit on the screen is cut off at its end."""
    from rich.console import Group
    from rich.text import Text

    overview = picture.overview
    head = [Text(f"Hasty on {url}", style="bold"), Text(overview.verdict)]
    if trouble:
        head.append(Text(trouble, style="red"))
    return Group(
        *head,
        Text(),
        Text(
            f"in {overview.span_s:.0f} s: {overview.accepted} accepted = {overview.finished} finished"
            f" + {overview.failed} failed + {overview.cancelled} cancelled + {overview.processing} processing"
        ),
        Text(f"unfinished {overview.unfinished}, running {overview.running}, free places {overview.free_slots}"),
        Text(f"to start {_seconds(overview.to_start_s)}; to end {_seconds(overview.to_end_s)}"),
        Text(),
        _workers(picture.workers),
        Text(),
        _jobs(picture.running[:SHOWN]),
        Text(),
        _kinds(picture.kinds),
    )


def _workers(workers: Iterable[Worker]) -> RenderableType:
    from rich.text import Text

    return _table(
        ("worker", "state", "last sign", "running", "held"),
        [
            (
                worker.worker,
                Text("silent", style="red") if worker.silent else Text("ready", style="green"),
                f"{worker.last_sign_s:.1f} s ago",
                str(worker.running),
                str(worker.held),
            )
            for worker in workers
        ],
    )


def _kinds(kinds: Iterable[Kind]) -> RenderableType:
    rows = [(kind.name, str(len(kind.workers)), str(kind.free_slots)) for kind in kinds if kind.versions]
    return _table(("kind", "workers", "free places"), rows)


def _jobs(jobs: Iterable[Job]) -> RenderableType:
    from hasty.cli.live import bar
    from hasty.cli.output import short

    rows = [
        (
            short(job.id),
            job.kind,
            job.worker or "",
            "" if job.progress is None else f"{bar(job.progress.done, 10)} {job.progress.done:.0%} {job.progress.note}",
            job.why,
        )
        for job in jobs
    ]
    return _table(("job", "kind", "worker", "progress", "why"), rows)


def _table(heading: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in heading:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows:
        # What handlers and users have named is no markup.
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def _seconds(quantiles: Quantiles | None) -> str:
    if quantiles is None:
        return "unknown"
    return f"p50 {quantiles.p50:.3g} s, p95 {quantiles.p95:.3g} s, p99 {quantiles.p99:.3g} s"
