"""A fake of the broker: a stream and its durable consumers in memory, as `tests/wire` proves."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing
from hasty.server.messaging.provisioning import StreamState
from hasty.server.messaging.topology import DURABLES, Durable, work_durable
from tests.fakes.fate import Fate

DUPLICATE_WINDOW_S = 600.0
# So often a waiting consumer looks for acknowledgement waits that are over; only real time needs it.
LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class _Stored:
    sequence: int
    subject: str
    data: bytes
    at_ns: int
    message_id: str | None


@dataclass(slots=True)
class _Due:
    """A message that was delivered and not answered: when it is delivered again, and how often it was."""

    at: float
    attempt: int


@dataclass(slots=True)
class _Group:
    """What the broker remembers of a durable consumer."""

    durable: Durable
    next_sequence: int = 1
    due: dict[int, _Due] = field(default_factory=dict)


class FakeBroker:
    """A stream and its durable consumers, kept in memory.

    `up` may be set to False and back; `fate` decides about each message that is published; `order` may reorder what a
    consumer is given at once.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.up = True
        self.ack_wait_s = 50.0
        self.fate: Callable[[Outgoing], Fate] = lambda _: Fate.STORED
        self.order: Callable[[list[int]], list[int]] = lambda sequences: sequences
        self.connections: set[FakeJetStream] = set()
        self.readers: dict[str, int] = dict.fromkeys((durable.name for durable in DURABLES), 0)
        self._lives = 0
        self._exists = False
        self.wipe()

    def wipe(self) -> None:
        """Forget everything, the stream and the consumers included."""
        self._lives += 1
        self._exists = False
        self._messages: list[_Stored] = []
        self._known_ids: dict[str, float] = {}
        self._groups: dict[str, _Group] = {}

    def ensure(self, ack_wait_s: float, kinds: Iterable[str] = ()) -> StreamState:
        """Make streams and consumers; which stream there is."""
        is_new = not self._exists
        self.ack_wait_s = ack_wait_s
        self._exists = True
        for durable in (*DURABLES, *map(work_durable, kinds)):
            self._groups.setdefault(durable.name, _Group(durable))
            self.readers.setdefault(durable.name, 0)
        return StreamState(f"life {self._lives}", is_new)

    @property
    def usable(self) -> bool:
        """Whether there is anything to publish to."""
        return self.up and self._exists

    def store(self, message: Outgoing) -> bool:
        """Store a message, unless its id is known; whether the publisher may be told."""
        fate = self.fate(message)
        if not self.usable or fate is Fate.LOST:
            return False
        if not self._is_known(message.message_id):
            at_ns = int(self.now() * 1e9)
            self._messages.append(
                _Stored(len(self._messages) + 1, message.subject, message.body, at_ns, message.message_id)
            )
        self.wake()
        return fate is Fate.STORED

    def _is_known(self, message_id: str | None) -> bool:
        if message_id is None:
            return False
        seen = self._known_ids.get(message_id)
        if seen is not None and self.now() - seen < DUPLICATE_WINDOW_S:
            return True
        self._known_ids[message_id] = self.now()
        return False

    def share(self, durable: Durable, most: int) -> list[Delivery]:
        """Deliver like `take`, but leave the other readers of the durable theirs."""
        each = math.ceil(self.unfinished(durable) / max(self.readers[durable.name], 1)) if self.usable else 0
        return self.take(durable, min(most, each))

    def take(self, durable: Durable, most: int) -> list[Delivery]:
        """Deliver up to `most` messages: those whose wait is over first, then those nobody has seen."""
        group = self._groups.get(durable.name)
        if not self.usable or group is None or most <= 0:
            return []
        again = [sequence for sequence, due in sorted(group.due.items()) if due.at <= self.now()]
        fresh = [
            message.sequence
            for message in self._messages[group.next_sequence - 1 :]
            if message.subject == group.durable.subject
        ]
        chosen = self.order([*again, *fresh])[:most]
        if chosen:
            group.next_sequence = max([group.next_sequence, *(sequence + 1 for sequence in chosen)])
            # What a reordering jumped over is not forgotten.
            for sequence in fresh:
                if sequence not in chosen and sequence < group.next_sequence:
                    group.due[sequence] = _Due(self.now(), 0)
        return [self._deliver(group, sequence) for sequence in chosen]

    def _deliver(self, group: _Group, sequence: int) -> Delivery:
        due = group.due.setdefault(sequence, _Due(0, 0))
        due.at = self.now() + self.ack_wait_s
        due.attempt += 1
        message = self._messages[sequence - 1]
        reply = f"$JS.ACK.{group.durable.stream}.{group.durable.name}.{due.attempt}.{sequence}.0.0.0"
        return Delivery(message.subject, message.data, reply, due.attempt, sequence, message.at_ns, message.message_id)

    def settle(self, delivery: Delivery) -> None:
        """Never deliver this message again."""
        group, due = self._due(delivery)
        if group is not None and due is not None:
            del group.due[delivery.stream_sequence]

    def postpone(self, delivery: Delivery, by_s: float) -> None:
        """Deliver this message again, but not before `by_s` seconds."""
        _, due = self._due(delivery)
        if due is not None:
            due.at = self.now() + by_s
        self.wake()

    def _due(self, delivery: Delivery) -> tuple[_Group | None, _Due | None]:
        group = self._groups.get(delivery.reply.split(".")[3])
        return group, None if group is None else group.due.get(delivery.stream_sequence)

    def unfinished(self, durable: Durable) -> int:
        """How many messages of a durable were not delivered or not answered yet."""
        group = self._groups[durable.name]
        fresh = [m for m in self._messages[group.next_sequence - 1 :] if m.subject == durable.subject]
        return len(group.due) + len(fresh)

    def wake(self) -> None:
        """Let the waiting consumers look."""
        for connection in self.connections:
            connection.wake()


class FakeJetStream:
    """One connection to a `FakeBroker`, with the methods of a connection, a publisher and acknowledgements."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._consumers: list[FakePullConsumer] = []
        self.on_connected: list[Callable[[], None]] = []
        broker.connections.add(self)

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._broker.up

    @property
    def where(self) -> str:
        """A name for messages."""
        return "a fake"

    def close(self) -> None:
        """Leave the broker."""
        self._broker.connections.discard(self)

    async def until_connected(self) -> None:
        """Wait until the broker is there."""
        while not self._broker.up:  # noqa: ASYNC110 - `up` is a plain attribute, for the convenience of tests
            await asyncio.sleep(LOOK_EVERY_S)

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Prove that the broker is there."""
        self._demand(self._broker.up, f"no answer within {timeout_s:g} s")

    async def ensure(self, ack_wait_s: float) -> StreamState:
        """Make stream and consumers; which stream there is."""
        self._demand(self._broker.up, "not connected")
        return self._broker.ensure(ack_wait_s)

    def _demand(self, condition: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
        if not condition:
            raise BrokerUnavailable(otherwise)

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        """Publish messages; True for each that the stream holds for certain."""
        return [self._broker.store(message) for message in messages]

    async def ack(self, deliveries: Sequence[Delivery]) -> bool:
        """Acknowledge finished work; whether the broker has confirmed it."""
        if not self._broker.usable and deliveries:
            return False
        for delivery in deliveries:
            self._broker.settle(delivery)
        return True

    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None:
        """Hand messages back."""
        for delivery in deliveries if self._broker.usable else ():
            self._broker.postpone(delivery, delay_s)

    async def term(self, deliveries: Sequence[Delivery]) -> None:
        """Never have these delivered again."""
        await self.ack(deliveries)

    async def in_progress(self, deliveries: Sequence[Delivery]) -> None:
        """Restart their acknowledgement wait."""
        for delivery in deliveries if self._broker.usable else ():
            self._broker.postpone(delivery, self._broker.ack_wait_s)

    def consumer(self, durable: Durable, *, free_slots: Callable[[int], int]) -> FakePullConsumer:
        """Consume a durable."""
        consumer = FakePullConsumer(self._broker, durable, free_slots=free_slots)
        self._consumers.append(consumer)
        return consumer

    def wake(self) -> None:
        """Let its consumers look."""
        for consumer in self._consumers:
            consumer.wake()


class FakePullConsumer:
    """Takes messages from a durable consumer of a `FakeBroker`."""

    def __init__(self, broker: FakeBroker, durable: Durable, *, free_slots: Callable[[int], int]) -> None:
        self._broker = broker
        self._durable = durable
        self._free_slots = free_slots
        self._wake = asyncio.Event()
        self._stopping = False

    @property
    def buffered(self) -> int:
        """Nothing waits here: the fake hands over what it takes."""
        return 0

    @property
    def consuming(self) -> bool:
        """Whether the broker would answer a pull."""
        return self._broker.usable

    def wake(self) -> None:
        """Say that there may be free slots, or a message."""
        self._wake.set()

    def stop(self) -> None:
        """Take no more."""
        self._stopping = True
        self._wake.set()

    async def batches(self) -> AsyncIterator[list[Delivery]]:
        """Yield what there is, at least one message at a time, until `stop`."""
        self._broker.readers[self._durable.name] += 1
        try:
            while not self._stopping:
                batch = self._broker.share(self._durable, self._free_slots(0))
                if batch:
                    yield batch
                    # The other readers are other processes: they get their turn.
                    await asyncio.sleep(0)
                else:
                    await self._wait()
        finally:
            self._broker.readers[self._durable.name] -= 1

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            return
