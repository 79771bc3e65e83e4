"""What only a real nats-server can do: be set up differently, freeze, or lose a consumer."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from hasty.server.local_stack import Child
from hasty.server.messaging import provisioning
from hasty.server.messaging.connection import CALL_TIMEOUT_S, BrokerUnavailable, Connection
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing, Subject, work_subject
from hasty.server.messaging.provisioning import StreamState, TopologyConflict
from hasty.server.messaging.publisher import Publisher
from hasty.server.messaging.topology import (
    DURABLES,
    FIRST_DELIVERY_S,
    JOB_CREATED,
    STREAM,
    STREAM_CONFIG,
    WORK,
    work_durable,
)
from hasty.server.messaging.watchdog import watch
from hasty.server.runtime.process import FatalExit
from tests.eventually import eventually
from tests.real_wire import RealWire
from tests.servers import is_stopped
from tests.wire.conftest import RealBroker

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACK_WAIT_S = 30.0


@pytest_asyncio.fixture(loop_scope="session")
async def wire(real_broker: RealBroker) -> AsyncIterator[RealWire]:
    """A connection to a broker without any stream."""
    async with real_broker.connection() as opened:
        assert isinstance(opened, RealWire)
        yield opened


async def api(wire: RealWire, subject: str, body: object = None) -> dict[str, Any]:
    """Ask RealWire for what no method of ours asks."""
    answer: dict[str, Any] = await wire.connection.api(subject, body)
    assert "error" not in answer, answer
    return answer


async def test_everything_is_made_as_it_was_agreed(wire: RealWire) -> None:
    """On file, bounded in age and size, with a long memory for ids; consumers that forget nothing."""
    await wire.ensure(ACK_WAIT_S, kinds=["greet"])

    stream = (await api(wire, f"STREAM.INFO.{STREAM}"))["config"]
    assert sorted(stream["subjects"]) == sorted(subject.value for subject in Subject)
    work = (await api(wire, f"STREAM.INFO.{WORK}"))["config"]
    assert work["subjects"] == ["work.*"]
    assert (stream["retention"], work["retention"]) == ("limits", "limits")
    for config in (stream, work):
        assert (config["storage"], config["allow_atomic"]) == ("file", True)
        assert config["duplicate_window"] >= 600 * 10**9
        assert config["max_age"] > 0
        assert config["max_bytes"] > 0
    for durable in (*DURABLES, work_durable("greet")):
        consumer = (await api(wire, f"CONSUMER.INFO.{durable.stream}.{durable.name}"))["config"]
        assert (consumer["deliver_policy"], consumer["ack_policy"]) == ("all", "explicit")
        assert (consumer["max_deliver"], consumer["ack_wait"]) == (-1, 30 * 10**9)
        assert "backoff" not in consumer


async def test_what_can_be_changed_in_place_is_brought_up_to_date(wire: RealWire) -> None:
    """Without losing a message, and without making anything anew."""
    old = STREAM_CONFIG | {"max_age": 60 * 10**9, "duplicate_window": 30 * 10**9, "allow_atomic": False}
    await api(wire, f"STREAM.CREATE.{STREAM}", old)
    assert await wire.publish([Outgoing(Subject.CREATED, b"x")]) == [True]
    await wire.ensure(10)

    state = await wire.ensure(ACK_WAIT_S)

    assert not state.is_new
    stream = await api(wire, f"STREAM.INFO.{STREAM}")
    assert stream["state"]["messages"] == 1
    assert {key: stream["config"][key] for key in old} == STREAM_CONFIG
    consumer = await api(wire, f"CONSUMER.INFO.{STREAM}.{JOB_CREATED.name}")
    assert (consumer["config"]["ack_wait"], consumer["num_pending"]) == (30 * 10**9, 1)


@pytest.mark.parametrize(("setting", "value"), [("storage", "memory"), ("retention", "workqueue")])
async def test_what_cannot_be_changed_in_place_is_named(wire: RealWire, setting: str, value: str) -> None:
    """Nothing is deleted by ourselves; a person is told what differs."""
    await api(wire, f"STREAM.CREATE.{STREAM}", STREAM_CONFIG | {setting: value})

    with pytest.raises(TopologyConflict, match=f"{setting} '{value}' -> "):
        await wire.ensure(ACK_WAIT_S)


async def test_copies_need_a_cluster(wire: RealWire) -> None:
    """A single server keeps one copy: the setting to change is named, whether the stream exists or not."""
    for _ in range(2):
        with pytest.raises(TopologyConflict, match="set HASTY_NATS_REPLICAS to 1"):
            await wire.ensure(ACK_WAIT_S, 3)
        await wire.ensure(ACK_WAIT_S)


async def test_stream_that_vanishes_during_the_check_is_no_conflict(
    wire: RealWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by injected faults: an api-server that was about to make a consumer left when its stream was gone."""
    ensure_stream = provisioning._ensure_stream  # noqa: SLF001 - between this step and the next the stream is deleted

    async def then_lose_it(connection: Connection, stream: str, replicas: int) -> StreamState:
        state = await ensure_stream(connection, stream, replicas)
        if stream == STREAM:
            await api(wire, f"STREAM.DELETE.{STREAM}")
        return state

    monkeypatch.setattr(provisioning, "_ensure_stream", then_lose_it)
    with pytest.raises(BrokerUnavailable, match="stream not found"):
        await wire.ensure(ACK_WAIT_S)
    monkeypatch.undo()

    assert (await wire.ensure(ACK_WAIT_S)).is_new


async def test_a_consumer_that_was_deleted_comes_back_under_its_reader(wire: RealWire) -> None:
    """Its owner makes it again, and the reader goes on by itself; what is delivered again is no longer young."""
    await wire.ensure(ACK_WAIT_S)
    consumer = wire.consumer(JOB_CREATED, free_slots=lambda buffered: 100 - buffered)
    received: list[Delivery] = []
    ages_s: list[float] = []

    async def read() -> None:
        async for batch in consumer.batches():
            received.extend(batch)
            ages_s.extend(time.time() - delivery.stored_ns / 1e9 for delivery in batch)

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read(), name="reader")
        await wire.publish([Outgoing(Subject.CREATED, b"before")])
        await eventually(lambda: len(received) == 1)
        await api(wire, f"CONSUMER.DELETE.{STREAM}.{JOB_CREATED.name}")
        await eventually(lambda: not consumer.consuming)

        await wire.ensure(ACK_WAIT_S)
        await wire.publish([Outgoing(Subject.CREATED, b"after")])

        await eventually(lambda: [delivery.data for delivery in received] == [b"before", b"before", b"after"])
        reader.cancel()
    assert ages_s[1] >= FIRST_DELIVERY_S


async def test_a_new_consumer_is_made_at_once(wire: RealWire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can have taken what it is for: there is nothing, though there are other messages."""
    await wire.ensure(ACK_WAIT_S)
    await wire.publish([Outgoing(work_subject("thumb"), b"{}"), Outgoing(Subject.CREATED, b"x")])
    monkeypatch.setattr(provisioning, "FIRST_DELIVERY_S", 3600)

    async with asyncio.timeout(30):
        await wire.ensure(ACK_WAIT_S, kinds=["greet"])


async def test_message_has_one_key_that_no_other_message_has(wire: RealWire, real_broker: RealBroker) -> None:
    """The same at each delivery; another one for the message that has its place in the next stream."""

    async def keys(count: int) -> list[str]:
        found: list[Delivery] = []
        consumer = wire.consumer(JOB_CREATED, free_slots=lambda _: 1)
        async for batch in consumer.batches():
            found += batch
            await wire.nak(batch)
            if len(found) >= count:
                break
        return [delivery.key for delivery in found]

    await wire.ensure(ACK_WAIT_S)
    await wire.publish([Outgoing(Subject.CREATED, b"x")])
    first = await keys(2)
    async with real_broker.connection() as other:
        assert isinstance(other, RealWire)
        await api(other, f"STREAM.DELETE.{STREAM}")
        await other.ensure(ACK_WAIT_S)
        await other.publish([Outgoing(Subject.CREATED, b"y")])
    second = await keys(1)

    assert first[0] == first[1]
    assert second[0] not in first


async def test_a_frozen_broker_holds_nobody_up(wire: RealWire, server: Child) -> None:
    """Every call ends in bounded time; when it thaws, the same connection works as before."""
    await wire.ensure(ACK_WAIT_S)
    server.pause()
    try:
        await eventually(lambda: is_stopped(server))
        started = time.monotonic()
        assert await wire.publish([Outgoing(Subject.CREATED, b"a")]) == [False]
        assert await wire.publish([Outgoing(Subject.CREATED, b"b"), Outgoing(Subject.CREATED, b"c")]) == [False, False]
        with pytest.raises(BrokerUnavailable):
            await wire.ping(0.5)
        with pytest.raises(BrokerUnavailable):
            await wire.ensure(ACK_WAIT_S)
        assert time.monotonic() - started < 4 * CALL_TIMEOUT_S
    finally:
        server.resume()

    async def works() -> bool:
        return await wire.publish([Outgoing(Subject.CREATED, b"d")]) == [True]

    await eventually(works)
    # The answers to the pings that nobody waits for any more arrive before these.
    for _ in range(3):
        await wire.ping()
    await works()


async def test_a_closed_client_is_a_reason_to_leave(wire: RealWire) -> None:
    """A process that can never speak to the broker again must not pretend to live."""
    watching = asyncio.create_task(watch(wire.connection, silence_s=20))
    await wire.connection.client.close()

    with pytest.raises(FatalExit) as caught:
        await watching
    assert caught.value.code == 70


async def test_broker_that_stores_nothing_is_no_ready_broker(real_broker: RealBroker) -> None:
    """It answers all the while: only what is published shows whether it stores."""
    async with real_broker.connection() as opened:
        assert isinstance(opened, RealWire)
        publisher = Publisher(opened.connection)
        await publisher.prove_stores()
        # Without a stream nobody stores it.
        assert await publisher.publish([Outgoing(Subject.CREATED, b"a")]) == [False]
        with pytest.raises(BrokerUnavailable, match="answers, but has stored no message for"):
            await publisher.prove_stores()
        await opened.ensure(ACK_WAIT_S)
        assert await publisher.publish([Outgoing(Subject.CREATED, b"b")]) == [True]
        await publisher.prove_stores()


async def test_connection_that_was_just_cut_is_unavailable(real_broker: RealBroker) -> None:
    """The loop of the services refuses to write to it before the client has noticed."""

    async def use() -> None:
        async with Connection.opened(real_broker.server.url, name="a test") as connection:
            await connection.until_connected()
            transport: Any = connection.client._transport  # noqa: SLF001 - only from here it can be cut in time
            transport._io_writer.transport.abort()  # noqa: SLF001 - likewise
            await asyncio.sleep(0)
            with pytest.raises(BrokerUnavailable):
                await connection.ping(0.5)

    await asyncio.to_thread(uvloop.run, use())


async def test_a_replaced_reconnection_breaks_no_other(wire: RealWire) -> None:
    """Whatever ends both, as a process does that stops."""
    client = wire.connection.client
    client.options["reconnect_time_wait"] = 30
    for server in client._server_pool:  # noqa: SLF001 - so that it waits before it tries
        server.last_attempt = time.monotonic()
    begun = []
    for _ in range(2):
        begun.append(asyncio.create_task(client._attempt_reconnect()))  # noqa: SLF001 - as a broken link begins it
        await asyncio.sleep(0.1)
    for task in begun:
        task.cancel()
        await asyncio.wait([task])

    assert [task.exception() for task in begun if not task.cancelled()] == [None, None]


async def test_connection_notes_when_it_was_lost(real_broker: RealBroker, wire: RealWire) -> None:
    """Before anything comes over the next one: what was stored until then may have been delivered before."""
    connection = wire.connection
    first = time.time_ns()
    assert connection.lost_ns < first
    seen: list[int] = []
    connection.on_connected.append(lambda: seen.append(connection.lost_ns))
    await real_broker.stop()
    await real_broker.start()
    await eventually(lambda: seen)
    assert first < seen[0] < time.time_ns()
