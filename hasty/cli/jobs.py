"""The commands about jobs that exist: get, list, cancel, retry, why."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from hasty.cli.completion import complete_kind
from hasty.cli.exits import DONE, INTERRUPTED, USAGE, code_of, leave, say
from hasty.cli.options import JOB, JOBS, of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty, Job

SAID_EVERY_S: Final = 2.0

_SPAN: Final = re.compile(r"([0-9]+)(s|min|m|h|d)")
_UNITS: Final = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


@click.command()
@JOB
@of_a_server
def get(job: str, *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Show a job as it is now."""
    from hasty.cli.ids import resolve
    from hasty.cli.output import print_fields, print_json
    from hasty.cli.server import connect

    with connect(url, profile) as client:
        found = client.get(resolve(client, job))
    if as_json:
        print_json(found)
    else:
        print_fields(_fields(found))


@click.command("list")
@click.option("--kind", help="Jobs of this kind.", shell_complete=complete_kind)
@click.option("--status", help="processing, finished, failed or cancelled.")
@click.option("--key", help="Jobs with this key; fast together with --kind.")
@click.option("--label", help="Jobs with this label.")
@click.option("--batch", metavar="ID", help="Jobs of this batch.")
@click.option("--since", metavar="TIME", help="Jobs created since then: 30s, 10min, 2h, 3d, or a time.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@of_a_server
def list_(
    *, since: str | None, limit: int, as_json: bool, url: str | None, profile: str | None, **filters: str | None
) -> None:
    """List jobs, newest first.

    Ctrl-C ends a long search, and shows what was found.
    """
    from hasty.cli.output import print_json, print_table
    from hasty.cli.server import connect

    search = _Search()
    rows = []
    with connect(url, profile) as client:
        wanted: dict[str, Any] = {**filters, "since": None if since is None else _since(since)}
        try:
            for job in client.jobs(**wanted, limit=limit, on_searched=search.went_back_to):
                if as_json:
                    print_json(job)
                else:
                    rows.append(_row(job, whole=not sys.stdout.isatty()))
        except KeyboardInterrupt:
            search.ended_early = True
    if not as_json:
        if not rows and sys.stderr.isatty() and not search.ended_early:
            say("there are no such jobs; make one with: hasty submit KIND name=value")
        print_table(["job", "kind", "status", "attempt", "created", "key", "labels"], rows)
    if search.ended_early:
        leave(f"the search ended early: searched {search.place()}", INTERRUPTED)


def _row(job: Job, *, whole: bool) -> list[str]:
    from hasty.cli.output import ago, short, time_text

    return [
        job.id if whole else short(job.id),
        job.kind,
        job.phase or job.status,
        f"{job.attempt}/{job.attempts}",
        time_text(job.created_at) if whole else ago(job.created_at),
        job.key or "",
        ",".join(job.labels),
    ]


class _Search:
    """How far a search for few of many jobs has come; it says so on a terminal while it takes long."""

    def __init__(self) -> None:
        self.ended_early = False
        self._back_to: datetime | None = None
        self._said_at = time.monotonic()

    def went_back_to(self, at: datetime) -> None:
        """Note that everything since then was looked at."""
        self._back_to = at
        if sys.stderr.isatty() and time.monotonic() - self._said_at >= SAID_EVERY_S:
            self._said_at = time.monotonic()
            say(f"searched {self.place()}, continuing; Ctrl-C shows what was found")

    def place(self) -> str:
        """Say how far back it has got."""
        from hasty.cli.output import time_text

        return f"back to {time_text(self._back_to)}" if self._back_to else "only the newest jobs"


@click.command()
@JOBS
@of_a_server
def cancel(jobs: tuple[str, ...], *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Cancel jobs.

    A job that has not started never starts, a running one is asked to stop, and an ended one stays as it is.
    """
    _each(jobs, url, profile, lambda client, job_id: client.cancel(job_id), as_json=as_json)


@click.command()
@JOBS
@of_a_server
def retry(jobs: tuple[str, ...], *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Make new jobs from ended ones.

    Their ids are printed.
    """
    _each(jobs, url, profile, lambda client, job_id: client.retry(job_id), as_json=as_json)


@click.command()
@JOB
@of_a_server
def why(job: str, *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Explain a job's state, and list what has happened to it."""
    from dataclasses import asdict

    from hasty.cli.ids import resolve
    from hasty.cli.output import print_json, print_table, time_text
    from hasty.cli.server import connect

    with connect(url, profile) as client:
        found = client.get(resolve(client, job))
        events = client.timeline(found)
    if as_json:
        print_json({"why": found.why, "timeline": [asdict(event) for event in events]})
        return
    click.echo(found.why)
    rows = [
        [time_text(event.at), event.event, str(event.attempt), event.worker or "", event.detail] for event in events
    ]
    print_table(["at", "event", "attempt", "worker", ""], rows)


def _each(
    jobs: Sequence[str], url: str | None, profile: str | None, act: Callable[[Hasty, str], Job], *, as_json: bool
) -> None:
    """Do something to each job; one that it cannot be done to stops no other."""
    from hasty.cli.ids import resolve
    from hasty.cli.output import print_json
    from hasty.cli.server import connect
    from hasty.client import Refused

    code = DONE
    with connect(url, profile) as client:
        for job in jobs:
            try:
                done = act(client, resolve(client, job))
            except Refused as error:
                say(f"{job}: {error}")
                code = code_of(error)
                continue
            if as_json:
                print_json(done)
            else:
                click.echo(f"{done.id}\t{done.phase or done.status}" if sys.stdout.isatty() else done.id)
    sys.exit(code)


def _fields(job: Job) -> list[tuple[str, str]]:
    """Return what is shown of a job, by name; what it does not have is left out."""
    from hasty.cli.output import ago, json_text, time_text

    error = job.error
    shown = [
        ("job", job.id),
        ("kind", job.kind),
        ("status", job.status),
        ("phase", job.phase),
        ("why", job.why),
        ("key", job.key),
        ("labels", ", ".join(job.labels)),
        ("attempt", f"{job.attempt} of {job.attempts}"),
        ("progress", None if job.progress is None else f"{job.progress.done:.0%} {job.progress.note}"),
        ("input", json_text(job.input)),
        ("output", json_text(job.output) if job.status == "finished" else None),
        ("error", None if error is None else f"{error.reason}: {error.message}\n{error.traceback}".rstrip()),
        *((name, f"{time_text(at)}  {ago(at)}" if at else None) for name, at in _times(job)),
        ("worker", job.worker),
        ("version", job.version),
        ("batch", job.batch),
        ("retry of", job.retry_of),
    ]
    return [(name, text) for name, text in shown if text]


def _times(job: Job) -> list[tuple[str, datetime | None]]:
    return [("created", job.created_at), ("due", job.due_at), ("started", job.started_at), ("ended", job.ended_at)]


def _since(text: str) -> datetime:
    """Read a time, or how long ago it was; exits where it is neither."""
    if found := _SPAN.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        leave(f"--since {text}: write 30s, 10min, 2h or 3d, or a time such as 2026-11-28T14:00:00Z", USAGE)
    return at if at.tzinfo is not None else at.astimezone()
