"""The api-server's settings; every one is an environment variable with the prefix `HASTY_`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hasty.jobs import KIND_NAME, SLEEP
from hasty.server.runtime.disks import FLOOR_MIB
from hasty.server.runtime.settings import ProcessSettings, UrlOf

DAY_S = 86_400
RETENTION_MIN_S = 3_600


def _whole_number(value: object) -> object:
    """Read digits as a number; anything else is left to the checks that follow."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _kind_name(value: str) -> str:
    """Return the name of a kind as it is; ValueError when it cannot be one."""
    if not KIND_NAME.fullmatch(value):
        raise ValueError("it must be the name of a kind: lower case letters, digits and underscores, at most 64")
    return value


class StreamSettings(ProcessSettings):
    """How whoever makes the streams makes them."""

    nats_replicas: Annotated[Literal[1, 3, 5], BeforeValidator(_whole_number)] = Field(
        default=1, description="how many servers of a NATS cluster keep a copy of each stream"
    )


class SetUpSettings(StreamSettings):
    """The settings of the set-up process, whose user of the broker may create the streams and their consumers."""

    bind_port: int = Field(default=9092, ge=0, le=65535, description="the port to listen on")


class Settings(StreamSettings):
    """The settings of an api-server; units are in the names."""

    bind_port: int = Field(default=9090, ge=0, le=65535, description="the port to listen on")
    api_mongo_url: Annotated[str, UrlOf(("mongodb", "mongodb+srv"))] = Field(
        default="mongodb://127.0.0.1:27017", description="the database of the api-servers"
    )
    nats_setup_url: Annotated[str, UrlOf(("nats", "tls", "ws", "wss"), several=True)] | None = Field(
        default=None,
        description="the broker with a user who may create the stream and its consumers; HASTY_NATS_URL, if not set",
    )
    nats_setup: bool = Field(
        default=True,
        description="create the streams and their consumers; if false, python -m api_server.set_up has to run as well",
    )
    root_kind: Annotated[str, AfterValidator(_kind_name)] = Field(
        default=SLEEP, description="the kind of the jobs that are posted with POST /"
    )
    cooldown_s: float = Field(
        default=300, ge=0, le=10**9, description="how long after a job's creation its object gets no other job"
    )
    overdue_s: float = Field(
        default=180,
        gt=0,
        le=10**9,
        description="how long after its dispatch a job without an ending is dispatched again",
    )
    retention_days: float = Field(
        default=30, ge=0, le=36500, description="how long jobs are kept after they have ended; for ever, if 0"
    )
    disk_folders: str = Field(
        default="", description="folders on the disks with data, separated by colons; no disk is checked, if not set"
    )
    disk_floor_mib: int = Field(
        default=FLOOR_MIB,
        ge=0,
        le=10**9,
        description="with less space on one of those disks, in MiB, new jobs are refused before anything fails",
    )
    ui: Literal["off", "read", "act"] = Field(
        default="read", description="what browsers, and with them the dashboard, may do; off: there is no dashboard"
    )
    ui_hosts: str = Field(
        default="",
        description="the host names under which browsers may reach the service, separated by commas; any, if not set",
    )
    drain_delay_s: float = Field(
        default=0,
        ge=0,
        le=60,
        description="how long a stopping process at least refuses new connections, so that a proxy uses another one",
    )

    def warnings(self) -> Iterator[str]:
        """What is valid, but hardly intended."""
        if self.nats_setup_url is not None and not self.nats_setup:
            yield "HASTY_NATS_SETUP_URL is not used, because HASTY_NATS_SETUP is false: remove one of them"
        if 0 < self.retention_days * DAY_S < max(RETENTION_MIN_S, self.cooldown_s):
            yield (
                f"HASTY_RETENTION_DAYS is {self.retention_days:g}: jobs that are forgotten within an hour, or within"
                " HASTY_COOLDOWN_S, may be forgotten while messages about them are still under way"
            )
        if self.overdue_s <= self.ack_wait_s:
            yield (
                f"HASTY_OVERDUE_S is {self.overdue_s:g}: it should be above HASTY_ACK_WAIT_S, which is"
                f" {self.ack_wait_s:g}, or jobs are dispatched again while the broker still waits for their workers"
            )
