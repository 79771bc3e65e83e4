"""What the services rely on between themselves, on the fake and on a real nats-server alike."""

import asyncio

import pytest

from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Subject
from hasty.server.messaging.provisioning import StreamState
from hasty.server.messaging.topology import JOB_CANCELLED, JOB_CREATED, JOB_FINISHED
from tests.eventually import eventually
from tests.wire.conftest import ACK_WAIT_S, Broker, Wire
from tests.wire.reading import PLENTY, message, reading

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_messages_arrive_in_order_and_unchanged(wire: Wire) -> None:
    """Each once, with its subject, as the first attempt."""
    bodies = ["one", "", "\u0000ünï", "x" * 60_000]
    assert await wire.publish([message(body) for body in bodies]) == [True] * 4

    async with reading(wire) as reader:
        received = await reader.got(4)
        await wire.ack(received)

    assert reader.bodies == bodies
    assert {(delivery.subject, delivery.attempt) for delivery in received} == {("job:created", 1)}
    assert [delivery.stream_sequence for delivery in received] == [1, 2, 3, 4]


async def test_nothing_is_published_when_there_is_nothing(wire: Wire) -> None:
    """An empty list is no special case for a caller."""
    assert await wire.publish([]) == []
    assert await wire.ack([]) is True


async def test_many_messages_at_once(wire: Wire) -> None:
    """More than fit into one batch of the broker's, in order all the same."""
    bodies = [str(number) for number in range(1_203)]
    assert await wire.publish([message(body, f"id {body}") for body in bodies]) == [True] * len(bodies)

    async with reading(wire, slots=2_000) as reader:
        await reader.got(len(bodies))
        assert await wire.ack(reader.received) is True

    # On a busy machine, those that wait long for their acknowledgement come once more.
    assert list(dict.fromkeys(reader.bodies)) == bodies


async def test_a_known_id_is_stored_once(wire: Wire) -> None:
    """And both publishers are told that the stream holds it."""
    assert await wire.publish([message("first", "a")]) == [True]
    assert await wire.publish([message("second", "a")]) == [True]
    assert await wire.publish([message("third")]) == [True]

    async with reading(wire) as reader:
        await wire.ack(await reader.got(2))

    assert reader.bodies == ["first", "third"]


async def test_a_known_id_does_not_hurt_its_batch(wire: Wire) -> None:
    """The others are stored, whatever the broker thinks of the batch."""
    await wire.publish([message("b", "b")])

    assert await wire.publish([message(body, body) for body in "abcde"]) == [True] * 5

    async with reading(wire) as reader:
        await wire.ack(await reader.got(5))
    assert sorted(reader.bodies) == ["a", "b", "c", "d", "e"]


async def test_an_id_twice_in_one_batch_is_stored_once(wire: Wire) -> None:
    """Two requests for the same dispatch may meet in one batch."""
    assert await wire.publish([message("a", "1"), message("a", "1"), message("b", "2")]) == [True] * 3

    async with reading(wire) as reader:
        await wire.ack(await reader.got(2))
    assert sorted(reader.bodies) == ["a", "b"]


async def test_a_message_without_an_id_is_stored_each_time(wire: Wire) -> None:
    """Only an id makes two messages one."""
    await wire.publish([message("same"), message("same")])

    async with reading(wire) as reader:
        await wire.ack(await reader.got(2))
    assert reader.bodies == ["same", "same"]


async def test_each_subject_has_its_own_consumer(wire: Wire) -> None:
    """Nobody gets another's messages."""
    subjects = [Subject.CREATED, Subject.FINISHED, Subject.CANCELLED]
    await wire.publish([message(subject, subject=subject) for subject in subjects])

    for durable in (JOB_CREATED, JOB_FINISHED, JOB_CANCELLED):
        async with reading(wire, durable) as reader:
            await wire.ack(await reader.got(1))
        assert reader.bodies == [durable.subject]


async def test_history_is_delivered_to_whoever_comes_later(wire: Wire) -> None:
    """What nobody has read yet waits, also for a consumer that did not exist."""
    await wire.publish([message("old")])
    async with reading(wire) as reader:
        await wire.publish([message("new")])
        await wire.ack(await reader.got(2))

    assert reader.bodies == ["old", "new"]


async def test_what_was_acknowledged_never_comes_again(broker: Broker, wire: Wire) -> None:
    """Not even to the next connection, after the acknowledgement wait."""
    await wire.publish([message("done")])
    async with reading(wire) as reader:
        assert await wire.ack(await reader.got(1)) is True

    async with broker.connection() as other, reading(other) as later:
        await wire.publish([message("marker")])
        await later.got(1)
        await other.in_progress(later.received)
        # A second marker, after a wait for the first one's silence, would be overtaken by an old message.
        await later.got(2, within_s=ACK_WAIT_S + 5)

    assert later.bodies == ["marker", "marker"]


async def test_silence_hands_a_message_to_another(broker: Broker, wire: Wire) -> None:
    """After the acknowledgement wait, and its attempt counts on."""
    await wire.publish([message("x")])
    async with reading(wire, slots=1) as dead:
        await dead.got(1)

        async with broker.connection() as other, reading(other) as heir:
            [delivery] = await heir.got(1, within_s=ACK_WAIT_S + 5)
            await other.ack([delivery])

    assert (delivery.data, delivery.attempt, delivery.stream_sequence) == (b"x", 2, 1)
    assert len(dead.received) == 1


async def test_signs_of_life_keep_a_message(wire: Wire) -> None:
    """Three waits long nobody else gets it."""
    loop = asyncio.get_running_loop()
    await wire.publish([message("long work")])
    async with reading(wire) as reader:
        await reader.got(1)
        until = loop.time() + 3 * ACK_WAIT_S

        async def still_mine() -> bool:
            await wire.in_progress(reader.received[:1])
            assert len(reader.received) == 1
            return loop.time() > until

        await eventually(still_mine, within_s=3 * ACK_WAIT_S + 5, every_s=ACK_WAIT_S / 4)
        await wire.ack(reader.received)


async def test_what_is_handed_back_is_delivered_again_at_once(wire: Wire) -> None:
    """Well before the acknowledgement wait, as the next attempt."""
    await wire.publish([message("x"), message("y")])
    async with reading(wire) as reader:
        await reader.got(2)
        await wire.nak(reader.received[:1])
        await reader.got(3, within_s=ACK_WAIT_S / 2)
        await wire.ack(reader.received[1:])

    assert [(d.data, d.attempt) for d in reader.received] == [(b"x", 1), (b"y", 1), (b"x", 2)]


async def test_what_is_handed_back_with_a_delay_waits_for_it(wire: Wire) -> None:
    """Not now means later."""
    loop = asyncio.get_running_loop()
    await wire.publish([message("x")])
    async with reading(wire) as reader:
        await reader.got(1)
        before = loop.time()
        await wire.nak(reader.received, delay_s=0.4)
        await reader.got(2)
        waited_s = loop.time() - before
        await wire.ack(reader.received[1:])

    assert 0.35 <= waited_s < ACK_WAIT_S + 2


async def test_terminated_message_never_comes_again(broker: Broker, wire: Wire) -> None:
    """A malformed message is delivered once."""
    await wire.publish([message("malformed"), message("valid")])
    async with reading(wire) as reader:
        await reader.got(2)
        await wire.term(reader.received[:1])

    async with broker.connection() as other, reading(other) as later:
        await later.got(1, within_s=ACK_WAIT_S + 5)
        await later.got(2, within_s=ACK_WAIT_S + 5)

    assert later.bodies == ["valid", "valid"]


async def test_a_late_acknowledgement_counts(wire: Wire) -> None:
    """A worker that was frozen and is done all the same saves the others the work."""
    await wire.publish([message("x"), message("y")])
    async with reading(wire) as reader:
        first = (await reader.got(2))[:2]
        await reader.got(4, within_s=ACK_WAIT_S + 5)
        assert await wire.ack(first) is True
        await wire.publish([message("z")])
        await reader.got(5)
        await wire.in_progress(reader.received[4:])
        await reader.got(6, within_s=ACK_WAIT_S + 5)

    assert reader.bodies == ["x", "y", "x", "y", "z", "z"]


async def test_consumer_takes_no_more_than_its_free_slots(wire: Wire) -> None:
    """The rest waits for others, or for a free slot."""
    await wire.publish([message(str(number)) for number in range(10)])
    async with reading(wire, slots=3) as small, reading(wire, slots=7) as large:
        await large.got(7)
        await small.got(3)
        await wire.ack(small.received + large.received)

    assert sorted(small.bodies + large.bodies) == [str(number) for number in range(10)]


async def test_slots_freed_later_are_used(wire: Wire) -> None:
    """`wake` says that there is some."""
    await wire.publish([message("x"), message("y")])
    places = 1
    received: list[Delivery] = []
    consumer = wire.consumer(JOB_CREATED, free_slots=lambda buffered: places - len(received) - buffered)

    async def read() -> None:
        async for batch in consumer.batches():
            received.extend(batch)

    async with asyncio.TaskGroup() as group:
        group.create_task(read(), name="reader")
        await eventually(lambda: len(received) == 1)
        await wire.ack(received)
        places = 2
        consumer.wake()
        await eventually(lambda: len(received) == 2)
        await wire.ack(received)
        consumer.stop()

    assert [delivery.data for delivery in received] == [b"x", b"y"]


async def test_consumers_of_one_durable_share_its_messages(broker: Broker, wire: Wire) -> None:
    """Each message goes to one of them, and each of them gets some."""
    async with (
        broker.connection() as other,
        reading(wire) as one,
        reading(other) as two,
    ):

        async def both_have_some() -> bool:
            await wire.publish([message("x") for _ in range(10)])
            await wire.ack(one.received)
            await other.ack(two.received)
            return bool(one.received) and bool(two.received)

        await eventually(both_have_some)

    sequences = [delivery.stream_sequence for delivery in one.received + two.received if delivery.attempt == 1]
    assert len(sequences) == len(set(sequences))


async def test_what_arrived_as_the_reader_stopped_is_not_lost(broker: Broker, wire: Wire) -> None:
    """A stop ends a consumer, not its messages."""
    bodies = [str(number) for number in range(50)]
    async with reading(wire, slots=20) as reader:
        await wire.publish([message(body, body) for body in bodies])
        await reader.got(20)
        await wire.nak(reader.received)

    async with broker.connection() as other, reading(other) as heir:
        await heir.got(50, within_s=ACK_WAIT_S + 10)
        await other.ack(heir.received)

    assert sorted(set(heir.bodies), key=int) == bodies


async def test_publishing_without_a_broker_promises_nothing(broker: Broker, wire: Wire) -> None:
    """Every message comes back as unknown, in bounded time; a later one is taken again by itself."""
    await broker.stop()

    async with asyncio.timeout(8):
        assert await wire.publish([message("a", "a"), message("b", "b")]) == [False, False]
        assert await wire.publish([message("c", "c")]) == [False]
        with pytest.raises(BrokerUnavailable):
            await wire.ping()
        with pytest.raises(BrokerUnavailable):
            await wire.ensure(ACK_WAIT_S)

    await broker.start()

    async def published() -> bool:
        return await wire.publish([message("d", "d")]) == [True]

    await eventually(published)
    await wire.ping()


async def test_reader_reads_on_after_reconnecting(broker: Broker, wire: Wire) -> None:
    """Without anybody's help; what was stored before is still there."""
    async with reading(wire) as reader:
        await wire.publish([message("before")])
        await wire.ack(await reader.got(1))
        await broker.stop()
        await eventually(lambda: not wire.connected)
        await broker.start()

        async def published() -> bool:
            return await wire.publish([message("after", "after")]) == [True]

        await eventually(published)
        await eventually(lambda: "after" in reader.bodies)
        await wire.ack(reader.received)


async def test_consumer_continues_when_its_stream_was_recreated(broker: Broker, wire: Wire) -> None:
    """The stream is another one, as its owner can tell, and the same reader reads it."""
    before = await wire.ensure(ACK_WAIT_S)
    assert not before.is_new
    async with reading(wire) as reader:
        await wire.publish([message("lost", "1")])
        await reader.got(1)
        await broker.stop()
        await broker.wipe()
        await broker.start()

        async def ensured() -> StreamState | None:
            try:
                return await wire.ensure(ACK_WAIT_S)
            except BrokerUnavailable:
                return None

        after = await eventually(ensured)
        assert after is not None
        assert await wire.publish([message("new", "1")]) == [True]
        await eventually(lambda: "new" in reader.bodies)
        await wire.ack(reader.received)

    assert (after.is_new, (await wire.ensure(ACK_WAIT_S)).is_new) == (True, False)
    assert after.identity != before.identity


async def test_publishing_without_a_stream_promises_nothing(broker: Broker) -> None:
    """A broker that is there but not set up holds nothing."""
    async with broker.connection() as opened:
        assert await opened.publish([message("a", "a"), message("b", "b")]) == [False, False]
        assert await opened.publish([message("c")]) == [False]


async def test_a_consumer_says_whether_it_is_being_served(broker: Broker, wire: Wire) -> None:
    """What readiness is made of."""
    consumer = wire.consumer(JOB_CREATED, free_slots=lambda _: PLENTY)

    async def read() -> None:
        async for _ in consumer.batches():
            pass

    async with asyncio.TaskGroup() as group:
        group.create_task(read(), name="reader")
        await eventually(lambda: consumer.consuming)
        await broker.stop()
        await eventually(lambda: not consumer.consuming)
        await broker.start()
        await eventually(lambda: consumer.consuming)
        consumer.stop()
