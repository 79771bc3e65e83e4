"""What the stack is made of: how each child is run, asked whether it answers, and ended."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local_stack import nginx, probes
from local_stack.child import Part
from local_stack.config import API_MONGO, API_SERVER, JOB_MONGO, JOB_SERVER, NATS, NGINX, Link, StackConfig
from local_stack.errors import MissingProgramError
from local_stack.folder import Folder
from local_stack.ports import Port
from local_stack.process import Command
from local_stack.programs import ROOT, find

DEFAULT_GRACE_S = 10.0
# Every message is on the disk before it is acknowledged; nobody but this machine can reach it.
NATS_CONFIG = """server_name: hasty
listen: {listen}
http: {monitor}
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
"""
URLS = {NATS: "nats://{}", API_MONGO: "mongodb://{}/hasty_api", JOB_MONGO: "mongodb://{}/hasty_job"}
VARIABLES = {NATS: "HASTY_NATS_URL", API_MONGO: "HASTY_API_MONGO_URL", JOB_MONGO: "HASTY_JOB_MONGO_URL"}
TARGETS = {API_SERVER: (NATS, API_MONGO), JOB_SERVER: (NATS, JOB_MONGO)}
MODULES = {API_SERVER: "api_server", JOB_SERVER: "job_server"}


def nats(folder: Folder) -> Part:
    """The broker."""
    port, monitor = Port(), Port()
    data, work = folder.data(NATS), folder.work(NATS)

    def plan() -> Command:
        config = work / "nats.conf"
        config.write_text(
            NATS_CONFIG.format(
                listen=json.dumps(port.address), monitor=json.dumps(monitor.address), store=json.dumps(str(data))
            )
        )
        return Command([find("nats-server"), "--config", str(config)], dict(os.environ), work)

    return Part(
        name=NATS,
        role=NATS,
        ports=(port, monitor),
        plan=plan,
        probe=lambda: probes.nats(port.number, monitor.number),
        log=folder.log(NATS),
        data=data,
    )


def mongo(name: str, folder: Folder, program: str) -> Part:
    """A database, one for each kind of service."""
    port = Port()
    data, work = folder.data(name), folder.work(name)

    def plan() -> Command:
        (work / "secantusd.toml").touch()  # without one it looks into several places, the home directory among them
        arguments = [
            *(program, "--host", "127.0.0.1", "--port", str(port.number), "--storage-path", str(data)),
            *("--config", str(work / "secantusd.toml")),
            # Without it, what was acknowledged is lost when the program is killed.
            *("--standalone", "--sync-on-commit", "--cache-size", "256M", "--log-level", "WARNING"),
            # Nobody reads its change streams. In the log, each removal of old entries would be a sync of its own, which
            # cost five sixths of the throughput and more than half of the processor time.
            *("--oplog-nonlogged", "--oplog-max-entries", "1000", "--log-file-max", "128MB"),
        ]
        return Command(arguments, dict(os.environ), work)

    return Part(
        name=name,
        role=name,
        ports=(port,),
        plan=plan,
        probe=lambda: probes.mongo(port.number),
        log=folder.log(name),
        data=data,
        grace_s=10.0,
    )


def service(role: str, number: int, folder: Folder, config: StackConfig, addresses: Mapping[str, str]) -> Part:
    """An api-server or a job-server; `addresses` are those of the parts that this stack runs itself."""
    name = f"{role}-{number}"
    port = Port()

    def plan() -> Command:
        given = config.commands.get(name) or config.commands.get(role)
        arguments = _resolved(given) if given else [sys.executable, "-m", MODULES[role]]
        return Command(arguments, _environment(name, role, port, config, addresses), ROOT)

    return Part(
        name=name,
        role=role,
        ports=(port,),
        plan=plan,
        probe=lambda: probes.http(port.number, "/readyz"),
        log=folder.log(name),
        grace_s=_grace_s(config) + 2.0,  # its own grace, and the time to leave
    )


class Nginx:
    """nginx, and which api-servers it sends requests to."""

    def __init__(self, http_port: int, folder: Folder, api_servers: Callable[[], Sequence[str]]) -> None:
        self.port = Port(http_port)
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
        nginx.render(self._work, self.port.address, self._control.address, self._api_servers(), self._generation)

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


def _environment(name: str, role: str, port: Port, config: StackConfig, addresses: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with the settings of this stack alone: HASTY_* of the caller come by the config."""
    given = {NATS: config.nats_url, API_MONGO: config.api_mongo_url, JOB_MONGO: config.job_mongo_url}
    urls = {
        VARIABLES[target]: given[target] or URLS[target].format(_wired(config, Link(name, target, addresses[target])))
        for target in TARGETS[role]
    }
    if role == API_SERVER and not config.nats_url:
        urls["HASTY_NATS_SETUP_URL"] = urls["HASTY_NATS_URL"]
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("HASTY_")},
        "PYTHONUNBUFFERED": "1",  # the last words of a killed process belong in its log
        **config.environment,
        "HASTY_BIND_HOST": "127.0.0.1",
        "HASTY_BIND_PORT": str(port.number),
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
