"""What a stack is to be, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hasty.server.runtime.disks import FLOOR_MIB

API_SERVER = "api-server"
JOB_SERVER = "job-server"
NATS = "nats"
API_MONGO = "api-mongo"
JOB_MONGO = "job-mongo"
NGINX = "nginx"
VARIABLES = {NATS: "HASTY_NATS_URL", API_MONGO: "HASTY_API_MONGO_URL", JOB_MONGO: "HASTY_JOB_MONGO_URL"}


@dataclass(frozen=True)
class Link:
    """A way from a service to a part of the stack: `api-server-1` to `nats` at `127.0.0.1:4222`."""

    child: str
    target: str
    address: str


@dataclass(frozen=True)
class StackConfig:
    """A stack to run.

    `http_port` is nginx's; 0 lets the system choose, as it does for every other port. A URL that is given replaces
    that part of the stack. `environment` holds the HASTY_* settings of every service, `environment_of` more of them
    for one child or one role, and `commands` replaces the command of a role or a child. `wire` may replace the
    address by which a service reaches a part.
    """

    folder: Path
    http_port: int = 0
    api_servers: int = 1
    job_servers: int = 1
    nats_url: str | None = None
    api_mongo_url: str | None = None
    job_mongo_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wire: Callable[[Link], str] | None = None
    restart_pause_s: float = 0.5
    start_timeout_s: float = 60.0
    disk_floor_mib: float = FLOOR_MIB
    log_limit_bytes: int = 32 * 1024 * 1024

    @property
    def ui(self) -> str:
        """What browsers may do. Only this machine reaches the stack, so whoever opens the dashboard may act."""
        return self.environment.get("HASTY_UI", "act")

    def url(self, target: str) -> str | None:
        """The URL that replaces the broker or a database, if it is given as itself."""
        return {NATS: self.nats_url, API_MONGO: self.api_mongo_url, JOB_MONGO: self.job_mongo_url}[target]

    def replaces(self, target: str) -> bool:
        """Whether the broker or a database is not the stack's own: its URL is given, as itself or in a file."""
        return self.url(target) is not None or f"{VARIABLES[target]}_FILE" in self.environment
