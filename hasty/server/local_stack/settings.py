"""The caller's environment, read here and nowhere else."""

from collections.abc import Mapping
from pathlib import Path

from hasty.server.local_stack.config import StackConfig
from hasty.server.local_stack.errors import StackError
from hasty.server.runtime.disks import FLOOR_MIB

DEFAULT_HTTP_PORT = 8080
HIGHEST_PORT = 65535


class SettingsError(StackError):
    """Settings hold what they may not hold; a line for each of them."""


def config_from(environment: Mapping[str, str], folder: Path, api_servers: int, job_servers: int) -> StackConfig:
    """The stack that HASTY_* of the environment describe; every one of them reaches the services as well.

    A variable that is empty counts as not given.
    """
    given = {key: value for key, value in environment.items() if key.startswith("HASTY_") and value}
    return StackConfig(
        folder=folder,
        http_port=_port(given.get("HASTY_HTTP_PORT", str(DEFAULT_HTTP_PORT))),
        api_servers=api_servers,
        job_servers=job_servers,
        nats_url=given.get("HASTY_NATS_URL"),
        api_mongo_url=given.get("HASTY_API_MONGO_URL"),
        job_mongo_url=given.get("HASTY_JOB_MONGO_URL"),
        disk_floor_mib=_mib(given.get("HASTY_DISK_FLOOR_MIB", str(FLOOR_MIB))),
        environment=given,
    )


def _mib(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise SettingsError(f"HASTY_DISK_FLOOR_MIB is {text!r}: it must be a whole number of MiB")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= HIGHEST_PORT:
        return int(text)
    raise SettingsError(f"HASTY_HTTP_PORT is {text!r}: it must be a port from 1 to {HIGHEST_PORT}")
