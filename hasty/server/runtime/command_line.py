"""The command line of a service: `--help` lists its settings, `--check` validates them; anything else is refused."""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pydantic_settings import BaseSettings

from hasty.server.runtime.settings import load, may_hold, variable_of

S = TypeVar("S", bound=BaseSettings)

WIDTH = 100
INDENT = " " * 30


def read(cls: type[S], name: str, arguments: Sequence[str] | None = None, module: str | None = None) -> S:
    """The settings of the service `name`, from the environment, when its command line asks for nothing else.

    `module` is what it is run as, if that is not its name.

    Raises:
        SystemExit: with code 0 after `--help` and after a `--check` of settings that are right, with code 2 when an
            argument or a setting is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module or name.replace('-', '_')}",
        description=f"Run one {name} until SIGTERM or SIGINT. Its settings are environment variables.",
        epilog="\n".join(["settings:", *_described(cls), "", "HASTY_..._URL_FILE names a file that holds the URL."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--check", action="store_true", help="check the settings and exit: 0 if they are valid, else 2")
    options = parser.parse_args(arguments)
    settings = load(cls)
    if options.check:
        raise SystemExit(0)
    return settings


def _described(cls: type[BaseSettings]) -> Iterator[str]:
    """Each setting: its variable, what it may hold, its default, and what it is for."""
    for field, info in cls.model_fields.items():
        default = "required" if info.is_required() else "" if info.default is None else f"default {info.default}"
        facts = [info.description or "", may_hold(field, info), default]
        text = textwrap.fill(
            "; ".join(fact for fact in facts if fact), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT
        )
        yield f"  {variable_of(field):<{len(INDENT) - 2}}{text.removeprefix(INDENT)}"
