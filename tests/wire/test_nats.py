"""What only a real nats-server can do: be set up differently, freeze, or lose a consumer."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from local_stack import Child
from messaging.events import Outgoing, Subject
from messaging.jetstream import CALL_TIMEOUT_S, BrokerUnavailable, Delivery, JetStream, StreamState, TopologyConflict
from messaging.topology import DURABLES, JOB_CREATED, STREAM, STREAM_CONFIG
from runtime.process import Leave
from tests.eventually import eventually
from tests.wire.conftest import RealBroker

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACK_WAIT_S = 30.0


@pytest_asyncio.fixture(loop_scope="session")
async def wire(real_broker: RealBroker) -> AsyncIterator[JetStream]:
    """A connection to a broker without any stream."""
    async with real_broker.connection() as opened:
        assert isinstance(opened, JetStream)
        yield opened


async def api(wire: JetStream, subject: str, body: object = None) -> dict[str, Any]:
    """Ask JetStream for what no method of ours asks."""
    answer: dict[str, Any] = await wire._api(subject, body)  # noqa: SLF001 - only tests want it
    assert "error" not in answer, answer
    return answer


async def test_everything_is_made_as_it_was_agreed(wire: JetStream) -> None:
    """On file, bounded in age and size, with a long memory for ids; consumers that forget nothing."""
    await wire.ensure(ACK_WAIT_S)

    stream = (await api(wire, f"STREAM.INFO.{STREAM}"))["config"]
    assert sorted(stream["subjects"]) == ["job:cancelled", "job:created", "job:finished"]
    assert (stream["storage"], stream["retention"], stream["allow_atomic"]) == ("file", "limits", True)
    assert stream["duplicate_window"] >= 600 * 10**9
    assert stream["max_age"] > 0
    assert stream["max_bytes"] > 0
    for durable in DURABLES:
        consumer = (await api(wire, f"CONSUMER.INFO.{STREAM}.{durable.name}"))["config"]
        assert (consumer["deliver_policy"], consumer["ack_policy"]) == ("all", "explicit")
        assert (consumer["max_deliver"], consumer["ack_wait"]) == (-1, 30 * 10**9)
        assert "backoff" not in consumer


async def test_what_can_be_changed_in_place_is_brought_up_to_date(wire: JetStream) -> None:
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
async def test_what_cannot_be_changed_in_place_is_named(wire: JetStream, setting: str, value: str) -> None:
    """Nothing is deleted by ourselves; a person is told what differs."""
    await api(wire, f"STREAM.CREATE.{STREAM}", STREAM_CONFIG | {setting: value})

    with pytest.raises(TopologyConflict, match=f"{setting} '{value}' -> "):
        await wire.ensure(ACK_WAIT_S)


async def test_a_stream_that_vanishes_while_it_is_looked_after_is_no_conflict(
    wire: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by injected faults: an api-server that was about to make a consumer left when its stream was gone."""
    look_after_stream = wire._ensure_stream  # noqa: SLF001 - between this step and the next the stream is deleted

    async def then_lose_it() -> StreamState:
        state = await look_after_stream()
        await api(wire, f"STREAM.DELETE.{STREAM}")
        return state

    monkeypatch.setattr(wire, "_ensure_stream", then_lose_it)
    with pytest.raises(BrokerUnavailable, match="stream not found"):
        await wire.ensure(ACK_WAIT_S)
    monkeypatch.undo()

    assert (await wire.ensure(ACK_WAIT_S)).is_new


async def test_a_consumer_that_was_deleted_comes_back_under_its_reader(wire: JetStream) -> None:
    """Its owner makes it again, and the reader goes on by itself; deleted work is delivered again."""
    await wire.ensure(ACK_WAIT_S)
    consumer = wire.consumer(JOB_CREATED, room=lambda: 100 - consumer.buffered)
    received: list[Delivery] = []

    async def read() -> None:
        async for batch in consumer.batches():
            received.extend(batch)

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


async def test_a_message_has_one_key_for_ever_and_shares_it_with_no_other(
    wire: JetStream, real_broker: RealBroker
) -> None:
    """The same at each delivery; another one for the message that has its place in the next stream."""

    async def keys(count: int) -> list[str]:
        found: list[Delivery] = []
        consumer = wire.consumer(JOB_CREATED, room=lambda: 1)
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
        assert isinstance(other, JetStream)
        await api(other, f"STREAM.DELETE.{STREAM}")
        await other.ensure(ACK_WAIT_S)
        await other.publish([Outgoing(Subject.CREATED, b"y")])
    second = await keys(1)

    assert first[0] == first[1]
    assert second[0] not in first


def _is_stopped(child: Child) -> bool:
    assert child.pid is not None
    return os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None


async def test_a_frozen_broker_holds_nobody_up(wire: JetStream, server: Child) -> None:
    """Every call ends in bounded time; when it thaws, the same connection works as before."""
    await wire.ensure(ACK_WAIT_S)
    server.pause()
    try:
        # A signal takes a moment to reach every thread of a busy machine.
        await eventually(lambda: _is_stopped(server))
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


async def test_a_closed_client_is_a_reason_to_leave(wire: JetStream) -> None:
    """A process that can never speak to the broker again must not pretend to live."""
    watching = asyncio.create_task(wire.watch(silence_s=20))
    await wire.close_client()

    with pytest.raises(Leave) as caught:
        await watching
    assert caught.value.code == 70
