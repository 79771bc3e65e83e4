"""`hasty submit`: make a job, and wait for it if asked to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hasty.cli.exits import USAGE, leave, say
from hasty.cli.options import KIND, TIMEOUT, of_a_server

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty


@click.command()
@KIND
@click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--input", "input_file", metavar="FILE", help="A file with the input as JSON; - is standard input.")
@click.option("--wait", is_flag=True, help="Wait for the outcome, and print the output.")
@TIMEOUT
@click.option(
    "--delay", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="Start this many seconds from now."
)
@click.option("--attempts", type=click.IntRange(min=1), help="How many attempts it gets.")
@click.option("--label", multiple=True, help="A label to find it by; can be repeated.")
@click.option("--idempotency-key", help="A name for this request: under the same name, it makes no second job.")
@of_a_server
def submit(  # long: its parameters are the options
    kind: str,
    values: tuple[str, ...],
    *,
    input_file: str | None,
    wait: bool,
    timeout: float | None,
    delay: float,
    attempts: int | None,
    label: tuple[str, ...],
    idempotency_key: str | None,
    as_json: bool,
    url: str | None,
    profile: str | None,
) -> None:
    """Make a job. Its id goes to standard output; with --wait, its output.

    The input is given as NAME=VALUE: a value is parsed by the kind's schema, which `hasty kinds` shows.
    """
    from hasty.cli.output import print_json, styled
    from hasty.cli.server import RETRY_WHILE_WAITING_S, connect
    from hasty.cli.waiting import wait_for

    with connect(url, profile) as client:
        given = _input(client, kind, values, input_file)
        try:
            options = client.with_options(
                delay_s=delay, attempts=attempts, labels=label, idempotency_key=idempotency_key
            )
        except ValueError as error:
            leave(str(error), USAGE)
        job = options.submit(kind, **given)
    if wait:
        with connect(url, profile, RETRY_WHILE_WAITING_S) as waiting:
            sys.exit(wait_for(waiting, job, timeout, as_json=as_json))
    if as_json:
        print_json(job)
        return
    click.echo(styled(job.id, bold=True))
    if sys.stderr.isatty():
        say(f"{job.why}; follow it with: hasty watch {job.id}")


def _input(client: Hasty, kind: str, values: tuple[str, ...], input_file: str | None) -> dict[str, Any]:
    from hasty.cli.values import ValueProblem, read_file, read_input

    schema = {} if not values else next((each.input_schema for each in client.kinds() if each.name == kind), {})
    try:
        return read_input(schema, values, None if input_file is None else read_file(input_file))
    except ValueProblem as error:
        leave(str(error), USAGE)
