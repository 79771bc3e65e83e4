"""A message as the services send them, and a reader that collects what it is given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import JOB_CREATED, Durable
from tests.eventually import eventually
from tests.wire.conftest import Wire

PLENTY = 1_000


def message(body: str, message_id: str | None = None, subject: str = Subject.CREATED) -> Outgoing:
    """A message as the services send them; the wire does not look into it."""
    return Outgoing(subject, body.encode(), message_id)


@dataclass
class Reader:
    """What one consumer of a durable was given, and leave to take more."""

    slots: int = PLENTY
    received: list[Delivery] = field(default_factory=list)

    @property
    def bodies(self) -> list[str]:
        """What the messages said."""
        return [delivery.data.decode() for delivery in self.received]

    async def got(self, count: int, within_s: float = 10) -> list[Delivery]:
        """Everything that came, once there are so many."""
        await eventually(lambda: len(self.received) >= count, within_s=within_s, every_s=0.01)
        return self.received


@asynccontextmanager
async def reading(wire: Wire, durable: Durable = JOB_CREATED, slots: int = PLENTY) -> AsyncIterator[Reader]:
    """A consumer that collects what it is given and answers nothing by itself; it leaves without waiting."""
    reader = Reader(slots)
    consumer = wire.consumer(durable, free_slots=lambda buffered: reader.slots - len(reader.received) - buffered)

    async def read() -> None:
        async for batch in consumer.batches():
            assert batch
            reader.received += batch

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(), name="reader")
        yield reader
        task.cancel()
