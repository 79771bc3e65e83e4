"""The command `hasty`, put together."""

import sys
from importlib import import_module
from typing import Final

import click

import hasty
from hasty.cli.exits import code_of, say

COMMANDS: Final = {
    "up": "up:up",
    "run": "run:run",
    "submit": "submit:submit",
    "get": "jobs:get",
    "wait": "waiting:wait",
    "watch": "waiting:watch",
    "list": "jobs:list_",
    "cancel": "jobs:cancel",
    "retry": "jobs:retry",
    "why": "jobs:why",
    "kinds": "fleet:kinds",
    "workers": "fleet:workers",
    "top": "top:top",
    "open": "browse:open_",
    "doctor": "doctor:doctor",
}
"""Where each command is, in the order in which `hasty --help` lists them."""


class Commands(click.Group):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click hands it over
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Return a command, if there is one of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"hasty.cli.{module}"), name)
        return command


@click.group(cls=Commands)
@click.version_option(hasty.__version__, message="hasty %(version)s")
def app() -> None:
    """Hasty gives every job exactly one outcome, whatever crashes."""


def main() -> None:
    """Run the command; does not return."""
    try:
        app(prog_name="hasty")
    except Exception as error:
        # Not loaded before: `hasty --help` does not wait for it.
        from hasty.client import HastyError

        if not isinstance(error, HastyError):
            raise
        say(str(error))
        sys.exit(code_of(error))
