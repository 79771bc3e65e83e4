"""The two brokers that must behave alike."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio

from hasty.server.local_stack import Child
from hasty.server.messaging.topology import STREAMS
from tests.fakes import FakeBroker, FakeJetStream
from tests.real_wire import RealWire
from tests.servers import nats_server, start

ACK_WAIT_S = 1.0

Wire = RealWire | FakeJetStream


class Broker(Protocol):
    """A broker that tests connect to, stop, start and wipe."""

    def connection(self) -> AbstractAsyncContextManager[Wire]:
        """Open a connection, which is usable when the block is entered."""

    async def stop(self) -> None:
        """Take the broker away."""

    async def start(self) -> None:
        """Bring it back with what it had stored."""

    async def wipe(self) -> None:
        """Make it forget everything while it is down."""


@dataclass
class RealBroker:
    """A nats-server."""

    server: Child

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Wire]:
        """Open a connection."""
        async with RealWire.opened(self.server.url, name="a test") as opened:
            await opened.until_connected()
            yield opened

    async def stop(self) -> None:
        """Kill it."""
        await self.server.stay_down()

    async def start(self) -> None:
        """Start it again."""
        await start(self.server)

    async def wipe(self) -> None:
        """Remove its store."""
        self.server.wipe()


@dataclass
class PretendBroker:
    """The fake."""

    broker: FakeBroker

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Wire]:
        """Open a connection."""
        opened = FakeJetStream(self.broker)
        try:
            yield opened
        finally:
            opened.close()

    async def stop(self) -> None:
        """Take it away."""
        self.broker.up = False

    async def start(self) -> None:
        """Bring it back."""
        self.broker.up = True

    async def wipe(self) -> None:
        """Make it forget."""
        self.broker.wipe()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Child]:
    """One nats-server for all tests of a module."""
    async with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def real_broker(server: Child) -> AsyncIterator[RealBroker]:
    """The nats-server without any stream."""
    broker = RealBroker(server)
    async with broker.connection() as opened:
        assert isinstance(opened, RealWire)
        for stream in STREAMS:
            await opened.connection.api(f"STREAM.DELETE.{stream}")
    yield broker


@pytest.fixture(params=["fake", "nats-server"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two."""
    if request.param == "fake":
        return PretendBroker(FakeBroker())
    real: RealBroker = request.getfixturevalue("real_broker")
    return real


@pytest_asyncio.fixture(loop_scope="session")
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    """A connection to a broker that is set up and empty."""
    async with broker.connection() as opened:
        await opened.ensure(ACK_WAIT_S)
        yield opened
