"""The set-up process, with the containers' users: what api-servers may not make themselves, they ask it for."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api_server.topology import ENSURE_EVERY_S, SET_UP, States, TopologyKeeper, ask_for_set_up
from hasty.server.local_stack import Child
from hasty.server.local_stack.resources import CODE
from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.topology import DURABLES, STREAM, STREAMS, WORK
from tests.eventually import eventually
from tests.real_wire import RealWire
from tests.servers import container_nats_server, start

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE_S = ENSURE_EVERY_S / 3
"""Sooner than any look that nothing suggested."""


@dataclass
class Asking:
    """An api-server's keeper, which asks; and how the broker looks to the one who may look at everything."""

    server: Child
    api: RealWire
    setup: RealWire
    kinds: list[str] = field(default_factory=list)
    found: list[States] = field(default_factory=list)

    def keeper(self) -> TopologyKeeper:
        """One that asks the set-up process, as an api-server in a container does."""
        keeper = TopologyKeeper(
            self.api.connection,
            lambda kinds: ask_for_set_up(self.api.connection, kinds),
            kinds=lambda: self.kinds,
            on_checked=self._note,
        )
        keeper.watch(self.api.connection)
        return keeper

    async def consumers(self, stream: str) -> set[str]:
        """The names of a stream's consumers."""
        answer = await self.setup.connection.api(f"STREAM.INFO.{stream}")
        count = answer.get("state", {}).get("consumer_count", 0)
        names = [durable.name for durable in DURABLES] if stream == STREAM else [f"work-{kind}" for kind in self.kinds]
        infos = [await self.setup.connection.api(f"CONSUMER.INFO.{stream}.{name}") for name in names]
        found = {info["name"] for info in infos if "error" not in info}
        assert len(found) == count
        return found

    async def _note(self, states: States) -> None:
        self.found.append(states)


@asynccontextmanager
async def set_up_process(url: str, folder: Path) -> AsyncIterator[None]:
    """Run it with a login of the broker's, from its file as in a container."""
    (folder / "login").write_text(url)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HASTY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "api_server.set_up"),
        cwd=folder,
        env={
            **environment,
            "PYTHONPATH": str(CODE),
            "HASTY_NATS_URL_FILE": str(folder / "login"),
            "HASTY_BIND_PORT": "0",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    started = asyncio.Event()
    reading = asyncio.create_task(_read_log(process, started), name="log of set-up")
    try:
        async with asyncio.timeout(60):
            await started.wait()
        yield
    finally:
        process.terminate()
        assert await process.wait() == 0
        await reading


async def _read_log(process: asyncio.subprocess.Process, started: asyncio.Event) -> None:
    """Note that the process has started; nothing of what it writes may hold it up."""
    assert process.stderr is not None
    async for line in process.stderr:
        sys.stderr.write(line.decode())
        if b'"started"' in line or b" started" in line:
            started.set()


@asynccontextmanager
async def asking(path: Path) -> AsyncIterator[tuple[Asking, dict[str, str]]]:
    """A broker without streams, and an api-server's login on it."""
    async with container_nats_server(path) as (server, urls), AsyncExitStack() as opened:
        api, setup = [
            await opened.enter_async_context(RealWire.opened(urls[user], name="a test")) for user in ("api", "setup")
        ]
        for wire in (api, setup):
            await wire.until_connected()
        yield Asking(server, api, setup), urls


@asynccontextmanager
async def running(keeper: TopologyKeeper) -> AsyncIterator[TopologyKeeper]:
    """Run a keeper."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run(), name="keeper")
        yield keeper
        task.cancel()


async def test_set_up_process_makes_what_api_servers_ask_for(tmp_path: Path) -> None:
    """Streams and consumers, and one more for each kind that becomes known, at once."""
    async with asking(tmp_path) as (system, urls), set_up_process(urls["setup"], tmp_path):
        system.kinds.append("greet")
        async with running(system.keeper()) as keeper:
            await eventually(lambda: keeper.well, within_s=AT_ONCE_S)
            assert await system.consumers(STREAM) == {durable.name for durable in DURABLES}
            await eventually(lambda: have(system, "work-greet"), within_s=AT_ONCE_S)

            system.kinds.append("resize")
            keeper.soon()

            await eventually(lambda: have(system, "work-resize"), within_s=AT_ONCE_S)


async def have(system: Asking, name: str) -> bool:
    """Whether there is such a consumer of a kind."""
    return name in await system.consumers(WORK)


async def test_api_server_notices_streams_that_set_up_made_anew(tmp_path: Path) -> None:
    """A broker that lost everything: it is set up again, and both streams are other ones, to one who may only ask."""
    async with asking(tmp_path) as (system, urls), set_up_process(urls["setup"], tmp_path):
        system.kinds.append("greet")
        async with running(system.keeper()) as keeper:
            await eventually(lambda: system.found, within_s=AT_ONCE_S)
            await system.server.stay_down()
            system.server.wipe()
            await start(system.server)

            def others() -> bool:
                first, last = system.found[0], system.found[-1]
                return all(first[stream].identity != last[stream].identity for stream in STREAMS)

            await eventually(others, within_s=AT_ONCE_S)
            await eventually(lambda: keeper.well, within_s=AT_ONCE_S)
            await eventually(lambda: have(system, "work-greet"), within_s=AT_ONCE_S)


async def test_api_server_asks_again_until_set_up_answers(tmp_path: Path) -> None:
    """It may start before the set-up process does."""
    async with asking(tmp_path) as (system, urls), running(system.keeper()) as keeper:
        with pytest.raises(BrokerUnavailable):
            await ask_for_set_up(system.api.connection, [])
        assert not keeper.well

        async with set_up_process(urls["setup"], tmp_path):
            await eventually(lambda: keeper.well, within_s=AT_ONCE_S)


async def test_requests_for_set_up_do_no_other_harm(tmp_path: Path) -> None:
    """Whatever their reply subject is, and whatever is in them."""
    async with asking(tmp_path) as (system, urls), set_up_process(urls["setup"], tmp_path):
        async with running(system.keeper()) as keeper:
            await eventually(lambda: keeper.well, within_s=AT_ONCE_S)
        before = await facts(system)
        for reply in (f"$JS.API.STREAM.DELETE.{STREAM}", f"$JS.API.STREAM.PURGE.{STREAM}", "$JS.API.ACCOUNT.INFO"):
            for data in (b"[]", b"{}", b'["a.b"]', b'["*"]', json.dumps(["x" * 65]).encode(), b"\xff"):
                await system.api.connection.client.publish(SET_UP, data, reply=reply)
        # All of them have been taken when a later one is answered.
        await ask_for_set_up(system.api.connection, ["greet"])
        system.kinds.append("greet")
        await eventually(lambda: have(system, "work-greet"), within_s=AT_ONCE_S)
        assert await facts(system) == before


async def facts(system: Asking) -> list[Any]:
    """Which streams there are, and what was ever in them."""
    infos = [await system.setup.connection.api(f"STREAM.INFO.{stream}") for stream in STREAMS]
    return [(info["created"], info["config"], info["state"]["messages"], info["state"]["last_seq"]) for info in infos]
