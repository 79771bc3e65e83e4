"""`hasty run`: a handler, here and now, without any server."""

import json
import sys

import click

from hasty.cli.exits import FAILED, USAGE, leave


@click.command()
@click.argument("work", metavar="FILE")
@click.argument("kind", metavar="KIND")
@click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--input", "input_file", metavar="FILE", help="A file with the input as JSON; - is standard input.")
@click.option("--attempt", type=click.IntRange(min=1), default=1, show_default=True, help="Which attempt it is.")
def run(work: str, kind: str, values: tuple[str, ...], *, input_file: str | None, attempt: int) -> None:
    """Run a handler with an input; its output goes to standard output. Exit code 0: done, 1: failed, 2: wrong usage.

    FILE is the Python file or module with your handlers, KIND the name of one. A value is read by the handler's types.
    """
    from hasty import testing
    from hasty.cli.values import ValueProblem, read_file, read_input
    from hasty.declare import DECLARED
    from hasty.errors import HandlerError
    from hasty.handlers import load

    try:
        loaded = load(work)
        handler = loaded.handlers.get(kind)
        if handler is None:
            leave(f"there is no handler {kind!r} in {work}, only {', '.join(sorted(loaded.handlers))}", USAGE)
        text = None if input_file is None else read_file(input_file)
        given = read_input(json.loads(handler.kind.input_schema), values, text)
        target = next(one.target for one in reversed(DECLARED) if one.name == kind)
        outcome = testing.run(target, given, attempt=attempt)
    except (HandlerError, testing.InputRefused, ValueProblem) as error:
        leave(str(error), USAGE)
    if outcome.status == "finished":
        click.echo(json.dumps(outcome.output, ensure_ascii=False))
        return
    if outcome.error is not None:
        if outcome.error.traceback:
            click.echo(outcome.error.traceback.rstrip(), err=True)
        click.echo(f"{outcome.status}: {outcome.error.reason}: {outcome.error.message}", err=True)
    else:
        click.echo(outcome.status, err=True)
    if outcome.retry_in_s is not None:
        click.echo(f"the next attempt would start in {outcome.retry_in_s:g} s", err=True)
    sys.exit(FAILED)
