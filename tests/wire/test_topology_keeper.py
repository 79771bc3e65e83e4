"""Stream and consumers are looked at rarely while all is well, and at once when something is missing."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from api_server.topology import ENSURE_EVERY_S, ENSURE_INTERVAL_S, States, TopologyKeeper
from hasty.server.local_stack import Child
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.provisioning import ensure
from hasty.server.messaging.topology import DURABLES, JOB_FINISHED, STREAM, WORK
from tests.eventually import eventually
from tests.real_wire import RealWire
from tests.servers import start
from tests.wire.conftest import RealBroker

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE_S = ENSURE_EVERY_S / 3
"""Sooner than any look that nothing suggested."""


class Kept:
    """A running keeper, and how often it found a new stream."""

    def __init__(self, wire: RealWire) -> None:
        self.wire = wire
        self.recreated = 0
        self.keeper = TopologyKeeper(wire.connection, self._ensure, on_checked=self._on_checked)
        self.keeper.watch(wire.connection)
        self._identity = ""

    async def _ensure(self, kinds: Collection[str]) -> States:
        return await ensure(self.wire.connection, 30, 1, kinds)

    async def _on_checked(self, states: States) -> None:
        if states[STREAM].identity != self._identity:
            self._identity = states[STREAM].identity
            self.recreated += 1


@asynccontextmanager
async def kept(broker: RealBroker) -> AsyncIterator[Kept]:
    """Run a keeper that has made the stream."""
    async with broker.connection() as wire, asyncio.TaskGroup() as group:
        assert isinstance(wire, RealWire)
        running = Kept(wire)
        task = group.create_task(running.keeper.run(), name="keeper")
        await eventually(lambda: running.recreated == 1)
        yield running
        task.cancel()


async def test_topology_is_asked_for_rarely(real_broker: RealBroker, server: Child) -> None:
    """One question for each stream and each consumer, and none more soon after them."""
    asked: list[str] = []
    listener = Client()
    await listener.connect(server.url, allow_reconnect=False)

    async def note(message: object) -> None:
        asked.append(str(message))

    async with kept(real_broker):
        await listener.subscribe("$JS.API.*.INFO.>", cb=note)
        await listener.flush()
        until = time.monotonic() + 5 * ENSURE_INTERVAL_S
        await eventually(lambda: time.monotonic() > until, within_s=10 * ENSURE_INTERVAL_S)
        await listener.close()

    assert asked == []


async def test_kind_has_its_consumer_before_it_is_known(real_broker: RealBroker) -> None:
    """It need not wait for the next look, nor for what nobody can have taken; a broker that is gone holds nobody up."""
    async with kept(real_broker) as running:
        await running.keeper.prepare(["greet"])
        assert "error" not in await running.wire.connection.api(f"CONSUMER.INFO.{WORK}.work-greet")

        await real_broker.stop()
        await running.keeper.prepare(["thumb"])
        await real_broker.start()


async def test_deleted_stream_is_made_again_at_once(real_broker: RealBroker) -> None:
    """A publish that nobody answers is enough."""
    async with kept(real_broker) as running:
        await running.wire.connection.api(f"STREAM.DELETE.{STREAM}")
        assert await running.wire.publish([Outgoing(Subject.CREATED, b"x")]) == [False]

        await eventually(lambda: running.recreated == 2, within_s=AT_ONCE_S)
        assert await running.wire.publish([Outgoing(Subject.CREATED, b"x")]) == [True]


async def test_deleted_consumer_is_made_again_at_once(real_broker: RealBroker) -> None:
    """A refused pull is enough; the stream is still the same."""
    async with kept(real_broker) as running:
        consumer = running.wire.consumer(JOB_FINISHED, free_slots=lambda _: 1)

        async def read() -> None:
            async for _ in consumer.batches():
                pass

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read(), name="reader")
            await eventually(lambda: consumer.consuming)
            await running.wire.connection.api(f"CONSUMER.DELETE.{STREAM}.{JOB_FINISHED.name}")
            await eventually(lambda: not consumer.consuming)

            await eventually(lambda: consumer.consuming, within_s=AT_ONCE_S)
            reader.cancel()
        assert running.recreated == 1


async def test_wiped_broker_is_set_up_at_once(real_broker: RealBroker, server: Child) -> None:
    """The new connection is enough, though nobody publishes or pulls."""
    async with kept(real_broker) as running:
        await server.stay_down()
        server.wipe()
        await start(server)

        await eventually(lambda: running.recreated == 2, within_s=AT_ONCE_S)

        async def has_consumers() -> bool:
            names = (await running.wire.connection.api(f"CONSUMER.NAMES.{STREAM}")).get("consumers") or []
            return set(names) == {durable.name for durable in DURABLES}

        await eventually(has_consumers, within_s=AT_ONCE_S)
