"""`python -m local_stack up`: the whole system on this machine, until Ctrl-C."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from local_stack.config import StackConfig
from local_stack.errors import StackError
from local_stack.programs import ROOT
from local_stack.settings import SettingsError, config_from
from local_stack.stack import Stack
from local_stack.view import View, watch

ENDED_AT_ONCE = 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def hasty() -> None:
    """Hasty without Docker."""


@app.command()
def up(
    api_servers: Annotated[int, typer.Option(min=1, help="How many api-servers run.")] = 1,
    job_servers: Annotated[int, typer.Option(min=0, help="How many job-servers run.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where data, logs and stack.json are.")] = ROOT / ".hasty",
) -> None:
    """Run the whole system until Ctrl-C. HASTY_* in the environment are its settings."""
    try:
        config = config_from(os.environ, folder, api_servers, job_servers)
        code = asyncio.run(_run(config))
    except StackError as error:
        typer.echo(f"hasty: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None
    raise typer.Exit(code)


async def _run(config: StackConfig) -> int:
    """Run the stack until the first signal, which ends it in order; the second ends it at once."""
    view = View(Console())
    main = asyncio.current_task()
    signals = 0

    def end() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            view.tell("ending everything in order; Ctrl-C once more ends it at once")
        if main is not None:
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        with view.shown():
            async with Stack.running(config, view.tell) as stack:
                view.show(stack)
                await watch(stack, view)
    except asyncio.CancelledError:
        return 0 if signals == 1 else ENDED_AT_ONCE


if __name__ == "__main__":
    app()
