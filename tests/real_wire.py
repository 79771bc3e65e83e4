"""What the services do over one connection to the broker, in one place for tests and benchmarks."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

from hasty.server.messaging.acks import Acks
from hasty.server.messaging.connection import Connection
from hasty.server.messaging.consumer import PullConsumer
from hasty.server.messaging.provisioning import StreamState, ensure
from hasty.server.messaging.publisher import Publisher
from hasty.server.messaging.topology import STREAM, Durable


class RealWire:
    """What the services do over one connection, in one place."""

    def __init__(self, connection: Connection) -> None:
        acks = Acks(connection)
        self.connection = connection
        self.publish = Publisher(connection).publish
        self.ack, self.nak, self.term, self.in_progress = acks.ack, acks.nak, acks.term, acks.in_progress
        self.ping = connection.ping
        self.until_connected = connection.until_connected
        self.on_connected = connection.on_connected

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, *, name: str) -> AsyncIterator[Self]:
        """Connect in the background and close at the end."""
        async with Connection.opened(url, name=name) as connection:
            yield cls(connection)

    @property
    def connected(self) -> bool:
        """Whether the client believes to be connected."""
        return self.connection.connected

    async def ensure(self, ack_wait_s: float, replicas: int = 1, kinds: Iterable[str] = ()) -> StreamState:
        """Make streams and consumers; which stream of endings there is."""
        return (await ensure(self.connection, ack_wait_s, replicas, kinds))[STREAM]

    def consumer(self, durable: Durable, *, free_slots: Callable[[int], int]) -> PullConsumer:
        """Consume a durable."""
        return PullConsumer(self.connection, durable, free_slots=free_slots)
