"""`python -m local_stack up`: the whole system on this machine, until Ctrl-C."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from local_stack import foreground
from local_stack.errors import StackError
from local_stack.programs import ROOT
from local_stack.settings import SettingsError, config_from
from local_stack.view import View

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
        code = asyncio.run(foreground.run(config, View(Console())))
    except StackError as error:
        typer.echo(f"hasty: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
