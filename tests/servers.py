"""Real servers for suites that need one of them alone: a broker, a database, as the local stack runs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_stack import Child, parts, programs
from local_stack.child import Part
from local_stack.config import API_MONGO
from local_stack.folder import Folder


@asynccontextmanager
async def nats_server(path: Path) -> AsyncIterator[Child]:
    """A broker with JetStream, empty at first."""
    with Folder.claimed(path) as folder:
        async with _running(parts.nats(folder)) as server:
            yield server


@asynccontextmanager
async def mongo_server(path: Path) -> AsyncIterator[Child]:
    """A MongoDB-compatible database, empty at first."""
    with Folder.claimed(path) as folder:
        async with _running(parts.mongo(API_MONGO, folder, programs.secantusd())) as server:
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
