"""Which server the command speaks to: `--url`, `--profile`, `HASTY_URL`, the profile that is set, or this machine's."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hasty.cli.exits import USAGE, leave, say

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty

PROFILE_VARIABLE: Final = "HASTY_PROFILE"
URL_VARIABLE: Final = "HASTY_URL"
DEFAULT_URL: Final = "http://localhost:8080"

AT_ONCE_S: Final = 3.0
"""A request is tried again for so long: a server that restarts is back by then, and a wrong URL is reported soon."""

RETRY_WHILE_WAITING_S: Final = 60.0
"""So long, while a job is waited for."""


class Server(NamedTuple):
    """A server, and who named it."""

    url: str
    headers: dict[str, str]
    source: str


def config_file() -> Path:
    """Return where profiles are."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "hasty" / "config.toml"


def server(url: str | None, profile: str | None) -> Server:
    """Return the server that is meant; exits where there is none."""
    if url is not None:
        return Server(url, {}, "--url")
    if profile is None and (from_environment := os.environ.get(URL_VARIABLE)):
        return Server(from_environment, {}, URL_VARIABLE)
    config = _config()
    name = profile or os.environ.get(PROFILE_VARIABLE) or config.get("profile")
    if name is None:
        return Server(DEFAULT_URL, {}, "the default")
    profiles = config.get("profiles", {})
    found = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("url"), str):
        leave(
            f'there is no profile {name!r} with a url in {config_file()}: write [profiles.{name}] and url = "..."',
            USAGE,
        )
    headers = found.get("headers", {})
    return Server(found["url"], {str(key): str(value) for key, value in headers.items()}, f"profile {name}")


def connect(url: str | None, profile: str | None, retry_for_s: float = AT_ONCE_S) -> Hasty:
    """Return a client of the server that is meant; exits where its URL is none."""
    from hasty.client.light import LightHasty

    meant = server(url, profile)
    reported: list[str] = []

    def report(reason: str, _pause_s: float) -> None:
        if not reported and sys.stderr.isatty():
            reported.append(reason)
            say(f"{meant.url}: {reason}; trying again")

    try:
        return LightHasty(meant.url, headers=meant.headers, retry_for_s=retry_for_s, on_retry=report)
    except ValueError as error:
        leave(f"{error} (from {meant.source})", USAGE)


def _config() -> dict[str, Any]:
    file = config_file()
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        leave(f"{file} cannot be read: {error}", USAGE)
