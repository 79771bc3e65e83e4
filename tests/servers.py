"""Real servers for suites that need one of them alone: a broker, a database, as the local stack runs them.

The broker also as the containers run it, with accounts and users.
"""

import json
import os
import runpy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hasty.server.database_users import Login
from hasty.server.local_stack import Child, parts, probes, programs
from hasty.server.local_stack.config import API_MONGO, NATS
from hasty.server.local_stack.folder import Folder
from hasty.server.local_stack.logins import new_logins
from hasty.server.local_stack.part import Part
from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.process import Command
from hasty.server.mongo import Mongo

ROOT = Path(__file__).parents[1]
CONTAINER_NATS = ROOT / "containers" / "nats"


@asynccontextmanager
async def nats_server(path: Path) -> AsyncIterator[Child]:
    """A broker with JetStream, empty at first."""
    with Folder.claimed(path) as folder:
        async with _running(parts.nats(folder, new_logins())) as server:
            yield server


@asynccontextmanager
async def container_nats_server(
    path: Path, changed: Callable[[str], str] = str
) -> AsyncIterator[tuple[Child, dict[str, str]]]:
    """The broker with the containers' own configuration and start, and the URL of each of its users by name.

    Only where it listens and stores is another than in a container, and what `changed` makes of the configuration.
    `previous-api` is a user that is being replaced.
    """
    port, monitor = Port(), Port()
    with Folder.claimed(path) as folder:
        work, data = folder.work(NATS), folder.data(NATS)
        (work / "credentials").mkdir()
        text, urls = _container_users(port.address)
        (work / "credentials" / "users.conf").write_text(text)
        # The path of the store is the one thing that no flag may override.
        config = (CONTAINER_NATS / "nats-server.conf").read_text()
        there, here = "store_dir: /data\n", f"store_dir: {json.dumps(str(data))}\n"
        assert config.count(there) == 1
        (work / "nats-server.conf").write_text(changed(config.replace(there, here)))
        arguments = [
            *("sh", str(CONTAINER_NATS / "start"), str(data)),
            *("--config", str(work / "nats-server.conf"), "--addr", "127.0.0.1"),
            *("--port", str(port.number), "--http_port", str(monitor.number)),
        ]
        path_of_programs = os.pathsep.join([str(Path(programs.find("nats-server")).parent), os.environ["PATH"]])
        part = Part(
            name=NATS,
            role=NATS,
            ports=(port, monitor),
            plan=lambda: Command(arguments, {**os.environ, "PATH": path_of_programs}, work),
            probe=lambda: probes.http(monitor.number, "/healthz"),
            log=folder.log(NATS),
            data=data,
        )
        async with _running(part) as server:
            yield server, urls


def _container_users(address: str) -> tuple[str, dict[str, str]]:
    """Users as the containers' own program makes them: its file for the broker, and each one's URL."""
    make_credentials = runpy.run_path(str(ROOT / "containers" / "credentials" / "make_credentials.py"))
    names = make_credentials["NATS_USERS"]
    fresh, previous = make_credentials["fresh"], make_credentials["PREVIOUS"]
    new = {f"nats-{name}": fresh(f"nats-{name}", first=True) for name in names}
    old = {f"nats-{name}{previous}": fresh(f"nats-{name}", first=False) for name in names}
    urls = {}
    for name in names:
        for user, login in ((name, new[f"nats-{name}"]), (f"previous-{name}", old[f"nats-{name}{previous}"])):
            urls[user] = f"nats://{login.user}:{login.password}@{address}"
    return make_credentials["nats_users"]({**new, **old}), urls


@asynccontextmanager
async def mongo_server(path: Path) -> AsyncIterator[Child]:
    """A MongoDB-compatible database, empty at first."""
    with Folder.claimed(path) as folder:
        async with _running(parts.mongo(API_MONGO, folder, programs.secantusd(), login=None)) as server:
            yield server


@asynccontextmanager
async def asking_mongo_server(path: Path, root: Login) -> AsyncIterator[Child]:
    """A database that asks for a login, with an administrator and nobody else, as in a container at its first start."""
    async with (
        mongo_server(path) as server,
        Mongo.opened(f"mongodb://{server.address}/admin", name="admin", indexes={}, timeout_s=5) as admin,
    ):
        await admin.command({"createUser": root.user, "pwd": root.password, "roles": ["root"]})
    with Folder.claimed(path) as folder:
        plain = parts.mongo(API_MONGO, folder, programs.secantusd(), login=None)

        def plan() -> Command:
            command = plain.plan()
            return replace(command, arguments=[*command.arguments, "--auth"])

        async with _running(replace(plain, plan=plan)) as server:
            yield server


@asynccontextmanager
async def _running(part: Part) -> AsyncIterator[Child]:
    server = Child(part, tell=lambda _: None, changed=lambda: None, first_pause_s=0.1)
    try:
        await start(server)
        yield server
    finally:
        await server.stay_down()
        server.close()


async def start(server: Child) -> None:
    """Start a server; it answers when this returns."""
    await server.start()
    await server.ready()


def is_stopped(server: Child) -> bool:
    """Whether a server that was paused stands still: on a busy machine, its threads go on for a moment."""
    assert server.pid is not None
    return os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None
