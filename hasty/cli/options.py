"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from hasty.cli.completion import complete_job, complete_kind

F = TypeVar("F", bound=Callable[..., Any])

KIND: Final = click.argument("kind", metavar="KIND", shell_complete=complete_kind)
JOB: Final = click.argument("job", metavar="JOB", shell_complete=complete_job)
JOBS: Final = click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
TIMEOUT: Final = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this; the job continues."
)

_SERVER: Final = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, or one per line."),
    click.option(
        "--url", metavar="URL", help="The server; default: HASTY_URL, the profile's, or http://localhost:8080."
    ),
    click.option("--profile", metavar="NAME", help="A profile in ~/.config/hasty/config.toml; default: HASTY_PROFILE."),
)


def of_a_server(command: F) -> F:
    """Add the options of every command that asks a server."""
    for option in reversed(_SERVER):
        command = option(command)
    return command
