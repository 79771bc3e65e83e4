"""The exit codes of the command, and what makes them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import HastyError, Job

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_SUCH_JOB: Final = 3
CANCELLED: Final = 5
WAIT_OVER: Final = 6
UNREACHABLE: Final = 7
KEY_TAKEN: Final = 8
INTERRUPTED: Final = 130


def say(message: str) -> None:
    """Say something on standard error."""
    click.echo(f"hasty: {message}", err=True)


def leave(message: str, code: int) -> NoReturn:
    """Say why on standard error, and exit."""
    say(message)
    sys.exit(code)


def code_of(error: HastyError) -> int:
    """Return the exit code of an error."""
    from hasty import client

    match error:
        case client.NoSuchJob():
            return NO_SUCH_JOB
        case client.KeyTaken():
            return KEY_TAKEN
        case client.InvalidRequest():
            return USAGE
        case client.WaitTimeout():
            return WAIT_OVER
        case client.Unreachable() | client.Unavailable() | client.UnexpectedAnswer():
            return UNREACHABLE
        case _:
            return FAILED


def code_of_job(job: Job) -> int:
    """Return the exit code of a job's outcome."""
    return {"finished": DONE, "failed": FAILED, "cancelled": CANCELLED}.get(job.status, WAIT_OVER)
