"""Three nats-servers that form one JetStream cluster on the loopback interface, each with its own ports and store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from hasty.server.local_stack import Child, probes, programs
from hasty.server.local_stack.folder import Folder
from hasty.server.local_stack.part import Part
from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.process import Command
from tests.eventually import eventually

STREAM: Final = "JOBS"
START_WITHIN_S: Final = 60.0
_CONFIG: Final = """server_name: {name}
listen: {listen}
http: {monitor}
# The shortest that the server accepts; with few clients it ends soon after the grace period.
lame_duck_duration: 30s
lame_duck_grace_period: 1s
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
cluster {{
  name: hasty
  listen: {route}
  routes: {routes}
}}
"""


class Cluster:
    """The three servers; a child that dies is started again, as a supervisor would."""

    def __init__(self, nodes: Mapping[str, Child]) -> None:
        self.nodes = dict(nodes)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, path: Path) -> AsyncIterator[Cluster]:
        """Run a cluster, empty at first, in which every server is ready."""
        with Folder.claimed(path) as folder:
            routes = {f"nats-{number}": Port() for number in (1, 2, 3)}
            nodes = {
                name: Child(_part(name, folder, routes), tell=lambda _: None, changed=lambda: None, first_pause_s=0.1)
                for name in routes
            }
            cluster = cls(nodes)
            try:
                await cluster.start(*nodes.values())
                yield cluster
            finally:
                await asyncio.gather(*(node.stay_down() for node in nodes.values()))
                for node in nodes.values():
                    node.close()

    @property
    def url(self) -> str:
        """All servers, as HASTY_NATS_URL takes them."""
        return ",".join(f"nats://{node.address}" for node in self.nodes.values())

    async def start(self, *nodes: Child) -> None:
        """Start these servers together: one alone has no quorum and is not ready."""
        await asyncio.gather(*(node.start() for node in nodes))
        await asyncio.gather(*(node.ready(START_WITHIN_S) for node in nodes))

    async def ready(self) -> None:
        """Wait until every server is ready and every copy of the stream has caught up."""
        await asyncio.gather(*(node.ready(START_WITHIN_S) for node in self.nodes.values()))
        await eventually(self.in_sync, within_s=START_WITHIN_S)

    async def api(self, subject: str, body: object = None, *, through: Iterable[Child] = ()) -> dict[str, Any]:
        """Ask JetStream's API through one of these servers (default: any).

        Raises:
            OSError: when nobody answers, or the answer is that JetStream cannot say now.
        """
        raw = b"" if body is None else json.dumps(body).encode()
        async with self.client(*through) as client:
            try:
                answer = await client.request(f"$JS.API.{subject}", raw, timeout=3)
            except NatsError as error:
                raise ConnectionError(f"no answer to {subject}: {error!r}") from error
        found: dict[str, Any] = json.loads(answer.data)
        if found.get("error", {}).get("code", 0) >= 500:
            raise ConnectionError(f"{subject}: {found['error']}")
        return found

    @contextlib.asynccontextmanager
    async def client(self, *through: Child) -> AsyncIterator[Client]:
        """Connect to one of these servers (default: any), without coming back when it is lost."""
        client = Client()
        servers = [f"nats://{node.address}" for node in through or self.nodes.values()]
        try:
            async with asyncio.timeout(10):
                await client.connect(servers, allow_reconnect=False, connect_timeout=2, error_cb=_ignore)
        except NatsError as error:
            raise ConnectionError(f"no connection to {servers}: {error!r}") from error
        try:
            yield client
        finally:
            await client.close()

    async def leader(self) -> Child:
        """The server that leads the stream, once there is one."""

        async def name() -> str | None:
            info = await self.api(f"STREAM.INFO.{STREAM}")
            leader: str | None = info.get("cluster", {}).get("leader")
            return leader

        found = await eventually(name, within_s=START_WITHIN_S)
        assert found is not None
        return self.nodes[found]

    async def followers(self) -> list[Child]:
        """The other two."""
        leader = await self.leader()
        return [node for node in self.nodes.values() if node is not leader]

    async def lead_by_one(self, durables: Iterable[str]) -> Child:
        """Have the stream's leader lead these consumers as well, each of which has its own elections; the leader."""
        leader = await self.leader()
        for durable in durables:
            target = f"{STREAM}.{durable}"

            async def led(target: str = target) -> bool:
                info = await self.api(f"CONSUMER.INFO.{target}")
                if info["cluster"].get("leader") == leader.name:
                    return True
                await self.api(f"CONSUMER.LEADER.STEPDOWN.{target}", {"placement": {"preferred": leader.name}})
                return False

            await eventually(led, within_s=START_WITHIN_S, every_s=0.2)
        return leader

    async def in_sync(self) -> bool:
        """Whether the stream has three copies, and each holds what the leader holds."""
        info = await self.api(f"STREAM.INFO.{STREAM}")
        copies = info.get("cluster", {}).get("replicas") or []
        return len(copies) == len(self.nodes) - 1 and all(
            copy["current"] and not copy.get("offline") and not copy.get("lag") for copy in copies
        )

    async def upgrade(self, node: Child) -> None:
        """Let a server leave in lame-duck mode, as an upgrade does, and wait until its next process is ready."""
        pid, exits = node.pid, len(node.exits)
        asked = await asyncio.create_subprocess_exec(programs.find("nats-server"), "--signal", f"ldm={pid}")
        assert await asked.wait() == 0
        await eventually(lambda: len(node.exits) > exits, within_s=START_WITHIN_S)
        await node.ready(START_WITHIN_S)


def _part(name: str, folder: Folder, routes: Mapping[str, Port]) -> Part:
    port, monitor = Port(), Port()
    data, work = folder.data(name), folder.work(name)

    def plan() -> Command:
        config = work / "nats.conf"
        config.write_text(
            _CONFIG.format(
                name=name,
                listen=json.dumps(port.address),
                monitor=json.dumps(monitor.address),
                store=json.dumps(str(data)),
                route=json.dumps(routes[name].address),
                routes=json.dumps([f"nats://{route.address}" for other, route in routes.items() if other != name]),
            )
        )
        return Command([programs.find("nats-server"), "--config", str(config)], dict(os.environ), work)

    return Part(
        name=name,
        role="nats",
        ports=(port, monitor, routes[name]),
        plan=plan,
        probe=lambda: probes.http(monitor.number, "/healthz"),
        log=folder.log(name),
        data=data,
    )


async def _ignore(_: Exception) -> None:
    """Leave it to the caller, who gets the error as well."""
