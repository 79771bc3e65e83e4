"""`hasty wait` and `hasty watch`: what is shown of a job meanwhile, and printed at its outcome."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from hasty.cli.exits import DONE, INTERRUPTED, WAIT_OVER, code_of_job, say
from hasty.cli.options import JOB, TIMEOUT, of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty, Job


@click.command()
@JOB
@TIMEOUT
@of_a_server
def wait(job: str, *, timeout: float | None, as_json: bool, url: str | None, profile: str | None) -> None:
    """Wait for a job's outcome, and print its output.

    Exit code 0: finished, 1: failed, 5: cancelled, 6: not yet.
    """
    from hasty.cli.server import RETRY_WHILE_WAITING_S, connect

    found = _found(job, url, profile)
    with connect(url, profile, RETRY_WHILE_WAITING_S) as client:
        sys.exit(wait_for(client, found, timeout, as_json=as_json))


@click.command()
@JOB
@of_a_server
def watch(job: str, *, as_json: bool, url: str | None, profile: str | None) -> None:
    """Follow a job to its outcome: a line for each change.

    The exit code is that of `hasty wait`.
    """
    from hasty.cli import live
    from hasty.cli.output import print_json
    from hasty.cli.server import RETRY_WHILE_WAITING_S, connect

    found = seen = _found(job, url, profile)
    with connect(url, profile, RETRY_WHILE_WAITING_S) as client:
        try:
            with live.shown(client, found):
                for seen in client.events(found):
                    if as_json:
                        print_json(seen)
                    else:
                        click.echo(_change(seen))
        except KeyboardInterrupt:
            sys.exit(_interrupted(seen))
    if not as_json:
        _print_failure(seen)
    sys.exit(code_of_job(seen))


def wait_for(client: Hasty, job: Job, timeout_s: float | None, *, as_json: bool) -> int:
    """Wait for a job, print its output or how it ended, and return the exit code."""
    from hasty.cli import live
    from hasty.cli.output import json_text, print_json
    from hasty.client import WaitTimeout

    try:
        with live.shown(client, job):
            ended = client.wait(job, timeout_s)
    except KeyboardInterrupt:
        return _interrupted(job)
    except WaitTimeout as error:
        if as_json:
            print_json(error.job)
        say(f"{error}; it continues; wait for it again with: hasty wait {job.id}")
        return WAIT_OVER
    if as_json:
        print_json(ended)
    elif ended.status == "finished":
        click.echo(json_text(ended.output))
    _print_failure(ended)
    return code_of_job(ended)


def _found(job: str, url: str | None, profile: str | None) -> Job:
    from hasty.cli.ids import resolve
    from hasty.cli.server import connect

    with connect(url, profile) as client:
        return client.get(resolve(client, job))


def _interrupted(job: Job) -> int:
    """Say that a job goes on, and how to come back to it; return the exit code."""
    click.echo(err=True)
    say(f"the job continues; wait for it again with: hasty wait {job.id}")
    say(f"or cancel it with: hasty cancel {job.id}")
    return INTERRUPTED


def _print_failure(job: Job) -> None:
    if code_of_job(job) == DONE:
        return
    if job.error is not None and job.error.traceback:
        click.echo(job.error.traceback.rstrip(), err=True)
    said = f": {job.error.reason}: {job.error.message}" if job.error is not None else ""
    say(f"job {job.id} {job.status}{said}")


def _change(job: Job) -> str:
    """Write one line about how a job is."""
    from hasty.cli.output import json_text, painted

    state = job.phase or job.status
    parts = [f"{job.id}  {painted(state, state)}", f"attempt {job.attempt} of {job.attempts}"]
    if job.worker is not None:
        parts.append(job.worker)
    if job.progress is not None:
        parts.append(f"{job.progress.done:.0%} {job.progress.note}".rstrip())
    if job.status == "finished":
        parts.append(json_text(job.output))
    return "  ".join(parts)
