"""`hasty doctor`: what is wrong with an installation, and what to do about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hasty.cli.exits import DONE, FAILED, UNREACHABLE
from hasty.cli.options import of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import DeadLetter, Hasty, Kind, Overview, Worker

CLOCKS_DIFFER_S: Final = 5.0
SLOW_S: Final = 1.0
DEAD_LETTERS_FRESH: Final = timedelta(days=1)
STACK_FILE: Final = Path(".hasty/stack.json")


@dataclass(frozen=True)
class Finding:
    """Something that was looked at: `todo` says what to do, where something is wrong."""

    what: str
    todo: str | None = None


@dataclass(frozen=True)
class Facts:
    """What a server says of itself; it took `took_s` seconds to say it, by `clock` here."""

    kinds: Sequence[Kind]
    workers: Sequence[Worker]
    overview: Overview
    dead_letters: Sequence[DeadLetter]
    took_s: float
    clock: datetime


@click.command()
@of_a_server
def doctor(*, as_json: bool, url: str | None, profile: str | None) -> None:
    """Say what is wrong with this installation, and what to do.

    Exit code 0: nothing is wrong, 1: something is, 7: the server cannot be reached.
    """
    from hasty.cli.output import print_json, styled
    from hasty.cli.server import connect, server
    from hasty.client import HastyError

    meant = server(url, profile)
    code, found = DONE, list(of_this_machine())
    with connect(url, profile) as client:
        try:
            facts = _facts(client)
        except HastyError as error:
            code = UNREACHABLE
            found.append(Finding(f"{error} ({meant.source})", _how_to_reach(meant.url, _stack())))
        else:
            found += [Finding(f"{meant.url} answers ({meant.source})"), *of_a_system(facts)]
    for each in found:
        if as_json:
            print_json(each)
        elif each.todo is None:
            click.echo(f"{styled('ok', fg='green')}     {each.what}")
        else:
            click.echo(f"{styled('wrong', fg='red')}  {each.what}\n       {each.todo}")
    sys.exit(code or (FAILED if any(each.todo for each in found) else DONE))


def of_this_machine() -> Iterator[Finding]:
    """Look at what is installed."""
    import hasty

    servers = all(find_spec(name) is not None for name in ("motor", "nats", "fastapi", "psutil"))
    with_them = "with" if servers else "without"
    yield Finding(
        f"hasty {hasty.__version__} on Python {sys.version.split()[0]}, {with_them} the servers that `hasty up` starts"
    )


def of_a_system(facts: Facts) -> Iterator[Finding]:
    """Judge what a server says of itself."""
    yield Finding(f"the verdict: {facts.overview.verdict}")
    if facts.took_s > SLOW_S:
        yield Finding(
            f"four answers took {facts.took_s:.1f} s", "check the load of the server and its database, and the network"
        )
    ahead_s = (facts.overview.at - facts.clock).total_seconds()
    if abs(ahead_s) > CLOCKS_DIFFER_S:
        where = "ahead of" if ahead_s > 0 else "behind"
        yield Finding(
            f"the server's clock is {abs(ahead_s):.0f} s {where} this machine's", "set both from a time server (NTP)"
        )
    yield from _of_workers(facts)
    yield from _of_kinds(facts)
    # They are kept for 30 days: an old one is no news.
    fresh = [letter for letter in facts.dead_letters if facts.overview.at - letter.at < DEAD_LETTERS_FRESH]
    if fresh:
        latest = fresh[0]
        yield Finding(
            f"there are dead letters, the last at {latest.at:%Y-%m-%d %H:%M:%S}Z: {latest.reason} ({latest.subject})",
            "see docs/logs.md, event dead_letter; GET /v1/dead-letters shows them",
        )


def _of_workers(facts: Facts) -> Iterator[Finding]:
    awake = [worker for worker in facts.workers if not worker.silent]
    if not awake:
        yield Finding("no job-server is running: jobs wait", "start one, as `hasty up tasks.py` does")
    else:
        # What runs is what workers said last: one that was killed a moment ago still counts.
        jobs = f"{facts.overview.unfinished} unfinished, {facts.overview.running} running as workers last reported"
        yield Finding(f"job-servers: {len(awake)}; jobs: {jobs}")
    for worker in facts.workers:
        if worker.silent:
            yield Finding(
                f"job-server {worker.worker} has been silent for {worker.last_sign_s:.0f} s, with {worker.held} jobs",
                "if it does not come back, others start them after HASTY_ACK_WAIT_S; see its log",
            )


def _of_kinds(facts: Facts) -> Iterator[Finding]:
    handlers = [kind for kind in facts.kinds if kind.versions]
    if not handlers:
        yield Finding("no handlers are announced, only the built-in sleep", "write some, see docs/handlers.md")
    for kind in handlers:
        if not kind.workers:
            yield Finding(f"no job-server serves {kind.name}: its jobs wait", "start one whose HASTY_WORK has it")
        elif kind.free_slots == 0 and facts.overview.unfinished > facts.overview.running:
            yield Finding(
                f"all places for {kind.name} are taken, and jobs wait",
                "start more job-servers, or give them more places (README)",
            )
    versions = {
        name: {worker.kinds[name] for worker in facts.workers if name in worker.kinds and not worker.silent}
        for name in (kind.name for kind in handlers)
    }
    several = sorted(name for name, served in versions.items() if len(served) > 1)
    if several:
        yield Finding(
            f"several versions are served at once: {', '.join(several)}", "if no deployment is under way, finish it"
        )


def _facts(client: Hasty) -> Facts:
    from time import monotonic

    began = monotonic()
    overview = client.overview()
    clock = datetime.now(UTC)
    facts = Facts(client.kinds(), client.workers(), overview, client.dead_letters(), 0, clock)
    return replace(facts, took_s=monotonic() - began)


def _stack() -> dict[str, Any]:
    """Return what the local stack in this folder says of itself, if there is one."""
    try:
        found = json.loads(STACK_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _how_to_reach(url: str, stack: dict[str, Any]) -> str:
    if stack and not _lives(stack.get("pid")):
        return f"the stack in {STACK_FILE.parent} is not running: `hasty up` starts it again"
    if stack and stack.get("url") != url:
        return f"the stack in this folder has another URL: use --url {stack['url']}"
    if stack:
        return f"the stack in this folder is running: see {STACK_FILE.parent / 'logs'}"
    return "`hasty up` starts one here; containers listen on port 80; for another server, use --url or HASTY_URL"


def _lives(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
