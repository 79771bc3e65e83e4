"""What the stack is made of: how each child is run, asked whether it answers, and ended."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hasty.server.database_users import Login, Wanted
from hasty.server.local_stack import nginx, prepare_database, probes
from hasty.server.local_stack.config import (
    API_MONGO,
    API_SERVER,
    JOB_MONGO,
    JOB_SERVER,
    NATS,
    NGINX,
    VARIABLES,
    Link,
    StackConfig,
)
from hasty.server.local_stack.errors import MissingProgramError
from hasty.server.local_stack.folder import Folder, data_folder
from hasty.server.local_stack.logins import NATS_SYSTEM, Logins, write_private
from hasty.server.local_stack.part import Part
from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.prepare_database import mark
from hasty.server.local_stack.process import Command
from hasty.server.local_stack.programs import find
from hasty.server.local_stack.resources import python_path

DEFAULT_GRACE_S = 10.0
# Every message is on the disk before it is acknowledged. Without a login nobody on this machine can use it: hence no
# monitoring by HTTP, which asks for none and lists the streams.
NATS_CONFIG = """server_name: hasty
listen: {listen}
authorization {{ users: [{{ user: {user}, password: {password} }}] }}
accounts {{ SYS {{ users: [{{ user: {system_user}, password: {system_password} }}] }} }}
system_account: SYS
jetstream {{
  store_dir: {store}
  # Not the default, three quarters of what is free at the start: a restart with a full disk would keep next to nothing
  # even once there is space again. The stream's own limit is lower.
  max_file_store: 8GiB
  sync_interval: always
}}
"""
LOOPBACK = "localhost,127.0.0.1,[::1]"
"""The names by which a browser on this machine reaches the stack; see `api_server.http.browsers`."""

DATABASES = {API_MONGO: "hasty_api", JOB_MONGO: "hasty_job"}
USERS_MARKER = "hasty-users"
"""Lies among a database's data, and says that its users have been made."""

SCHEMES = {NATS: "nats", API_MONGO: "mongodb", JOB_MONGO: "mongodb"}
TARGETS = {API_SERVER: (NATS, API_MONGO), JOB_SERVER: (NATS, JOB_MONGO)}
MODULES = {API_SERVER: "api_server", JOB_SERVER: "job_server"}


class Store(NamedTuple):
    """Where a broker or database is, and its URL as reached at an address."""

    address: str
    url_at: Callable[[str], str]


def nats(folder: Folder, logins: Logins) -> Part:
    """The broker."""
    port = Port()
    data, work = folder.data(NATS), folder.work(NATS)
    login, system = logins[NATS], logins[NATS_SYSTEM]

    def plan() -> Command:
        config = work / "nats.conf"
        values = {
            "listen": port.address,
            "store": str(data),
            "user": login.user,
            "password": login.password,
            "system_user": system.user,
            "system_password": system.password,
        }
        write_private(config, NATS_CONFIG.format(**{name: json.dumps(value) for name, value in values.items()}))
        return Command([find("nats-server"), "--config", str(config)], dict(os.environ), work)

    return Part(
        name=NATS,
        role=NATS,
        ports=(port,),
        plan=plan,
        probe=lambda: probes.nats(port.number, system),
        log=folder.log(NATS),
        url_at=lambda address: nats_url(address, login),
        data=data,
        refusal=lambda: nullcontext(lambda: probes.nats_refusal(port.number, system)),
    )


def mongo(name: str, folder: Folder, program: str, login: Login | None) -> Part:  # long: an argument a line, with why
    """A database, one for each kind of service; with `login`, nobody else may use it."""
    port = Port()
    data, work = folder.data(name), folder.work(name)

    def url_at(address: str) -> str:
        return login.url(address, DATABASES[name]) if login else f"mongodb://{address}/{DATABASES[name]}"

    def plan() -> Command:
        (work / "secantusd.toml").touch()  # without one it looks into several places, the home directory among them
        arguments = [
            *(program, "--storage-path", str(data), "--config", str(work / "secantusd.toml")),
            # Without it, what was acknowledged is lost when the program is killed.
            *("--standalone", "--sync-on-commit", "--cache-size", "256M", "--log-level", "WARNING"),
            # Nobody reads its change streams. In the log, each removal of old entries would be a sync of its own, which
            # cost five sixths of the throughput and more than half of the processor time.
            *("--oplog-nonlogged", "--oplog-max-entries", "1000", "--log-file-max", "128MB"),
        ]
        where = ["--host", "127.0.0.1", "--port", str(port.number)]
        if login is None:
            return Command([*arguments, *where], dict(os.environ), work)
        wanted = Wanted(address="", database=DATABASES[name], users=(login,))
        marker = data / USERS_MARKER
        with suppress(FileNotFoundError):
            if marker.read_text() == mark(wanted):
                return Command([*arguments, *where, "--auth"], dict(os.environ), work)
        # A password belongs into no command line, which everybody on this machine can read.
        write_private(work / "users.json", wanted.model_dump_json())
        prepare = [sys.executable, "-P", "-m", prepare_database.__name__, str(work / "users.json"), str(marker)]
        environment = {**os.environ, **python_path(os.environ)}
        return Command([*prepare, str(port.number), *arguments], environment, work)

    return Part(
        name=name,
        role=name,
        ports=(port,),
        plan=plan,
        probe=lambda: probes.mongo(port.number),
        log=folder.log(name),
        url_at=url_at,
        data=data,
        refusal=lambda: probes.mongo_refusal(url_at(port.address)),
        grace_s=10.0,
    )


def nats_url(address: str, login: Login) -> str:
    """The address of a broker with a login."""
    return f"nats://{quote(login.user)}:{quote(login.password)}@{address}"


def service(role: str, number: int, folder: Folder, config: StackConfig, stores: Mapping[str, Store]) -> Part:
    """An api-server or a job-server; `stores` are those that this stack runs itself."""
    name = f"{role}-{number}"
    port = Port()

    def plan() -> Command:
        given = config.commands.get(name) or config.commands.get(role)
        arguments = _resolved(given) if given else [sys.executable, "-P", "-m", MODULES[role]]
        # In the folder of the caller, so that the paths in settings mean what they mean to the caller.
        return Command(arguments, _environment(name, role, port.number, config, stores), Path.cwd())

    return Part(
        name=name,
        role=role,
        ports=(port,),
        plan=plan,
        probe=lambda: probes.http(port.number, "/readyz"),
        log=folder.log(name),
        grace_s=_grace_s(config) + 2.0,  # its own grace, and the time to leave
    )


def check(role: str, config: StackConfig) -> Command | None:
    """What validates the settings of a role as its services will get them; None where it has a command of its own."""
    if role in config.commands:
        return None
    # Whatever they will be.
    stores = {target: Store("127.0.0.1:1", f"{SCHEMES[target]}://{{}}".format) for target in VARIABLES}
    environment = _environment(f"{role}-1", role, 1, config, stores)
    return Command([sys.executable, "-P", "-m", MODULES[role], "--check"], environment, Path.cwd())


class Nginx:
    """nginx, and which api-servers it sends requests to."""

    def __init__(self, http_port: int, folder: Folder, ui: str, api_servers: Callable[[], Sequence[str]]) -> None:
        self.port = Port(http_port)
        self._ui = ui
        self._control = Port()
        self._folder = folder
        self._work = folder.work(NGINX)
        self._api_servers = api_servers
        self._generation = 0

    def part(self) -> Part:
        """The child."""
        return Part(
            name=NGINX,
            role=NGINX,
            ports=(self.port, self._control),
            plan=self._plan,
            probe=self.serves,
            log=self._folder.log(NGINX),
            stop_signal=signal.SIGQUIT,  # requests in work get their answers
            death_signal=signal.SIGTERM,  # its master takes the workers along, which SIGKILL would leave behind
        )

    def render(self) -> None:
        """Write its configuration anew."""
        self._generation += 1
        addresses = self.port.address, self._control.address
        nginx.render(self._work, *addresses, self._api_servers(), self._generation, self._ui)

    async def serves(self) -> str | None:
        """Whether new connections meet what was rendered last."""
        return await nginx.serves(self._control.number, self._generation)

    def close(self) -> None:
        """Give its ports back."""
        self.port.close()
        self._control.close()

    def _plan(self) -> Command:
        self.render()
        return Command(nginx.command(self._work), dict(os.environ), self._work)


def _environment(name: str, role: str, port: int, config: StackConfig, stores: Mapping[str, Store]) -> dict[str, str]:
    """The caller's environment with the settings of this stack alone: HASTY_* of the caller come by the config."""
    own = [target for target in TARGETS[role] if not config.replaces(target)]
    urls = {VARIABLES[target]: url for target in TARGETS[role] if (url := config.url(target))}
    urls |= {
        VARIABLES[target]: stores[target].url_at(_wired(config, Link(name, target, stores[target].address)))
        for target in own
    }
    if role == API_SERVER and NATS in own:
        urls["HASTY_NATS_SETUP_URL"] = urls["HASTY_NATS_URL"]
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("HASTY_")},
        **python_path(os.environ),
        "PYTHONUNBUFFERED": "1",  # the last words of a killed process belong in its log
        "HASTY_DISK_FOLDERS": os.pathsep.join(str(data_folder(config.folder.resolve(), part)) for part in stores),
        "HASTY_UI": config.ui,
        "HASTY_UI_HOSTS": LOOPBACK,
        **config.environment,
        "HASTY_BIND_HOST": "127.0.0.1",
        "HASTY_BIND_PORT": str(port),
        **urls,
        **config.environment_of.get(role, {}),
        **config.environment_of.get(name, {}),
    }


def _wired(config: StackConfig, link: Link) -> str:
    return config.wire(link) if config.wire else link.address


def _grace_s(config: StackConfig) -> float:
    try:
        return float(config.environment.get("HASTY_SHUTDOWN_GRACE_S", DEFAULT_GRACE_S))
    except ValueError:
        return DEFAULT_GRACE_S  # the service itself will say what is wrong with it


def _resolved(command: Sequence[str]) -> list[str]:
    program = shutil.which(command[0]) or (command[0] if Path(command[0]).is_file() else None)
    if program is None:
        raise MissingProgramError(f"the program {command[0]} is not installed")
    return [program, *command[1:]]
