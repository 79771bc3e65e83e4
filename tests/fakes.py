"""Fakes of the broker and the databases: the same promises without processes, as tests/wire and tests/store prove.

The models use them too, so their clocks are parameters and their failures can be asked for.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from api_server import errors as api_errors
from api_server.domain import Job, Lease, Outcome, Run, Status
from job_server import errors as job_errors
from messaging.jetstream import BrokerUnavailable, Delivery, StreamState
from messaging.topology import DURABLES, Durable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from api_server import service as api_service
    from job_server import domain as job_domain
    from job_server import service as job_service
    from messaging.events import Outgoing

DUPLICATE_WINDOW_S = 600.0
# So often a waiting consumer looks for acknowledgement waits that are over; only real time needs it.
LOOK_EVERY_S = 0.05


class Fate(Enum):
    """What becomes of a message that is published, or of a command to a database."""

    STORED = auto()
    LOST = auto()
    """It never arrived, and the sender cannot know."""
    UNANSWERED = auto()
    """It was obeyed, but the answer is lost: the sender cannot know."""


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

    def ensure(self, ack_wait_s: float) -> StreamState:
        """Make stream and consumers; which stream there is."""
        is_new = not self._exists
        self.ack_wait_s = ack_wait_s
        self._exists = True
        for durable in DURABLES:
            self._groups.setdefault(durable.name, _Group(durable))
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
        reply = f"$JS.ACK.JOBS.{group.durable.name}.{due.attempt}.{sequence}.0.0.0"
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
    """One connection to a `FakeBroker`, with the methods of `messaging.jetstream.JetStream`."""

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

    def consumer(self, durable: Durable, *, room: Callable[[], int]) -> FakePullConsumer:
        """Consume a durable."""
        consumer = FakePullConsumer(self._broker, durable, room=room)
        self._consumers.append(consumer)
        return consumer

    def wake(self) -> None:
        """Let its consumers look."""
        for consumer in self._consumers:
            consumer.wake()


class FakePullConsumer:
    """Takes messages from a durable consumer of a `FakeBroker`."""

    def __init__(self, broker: FakeBroker, durable: Durable, *, room: Callable[[], int]) -> None:
        self._broker = broker
        self._durable = durable
        self._room = room
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
        """Say that there may be room, or a message."""
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
                batch = self._broker.share(self._durable, self._room())
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


class _FakeDatabase:
    """What both fake databases have: they may be away, and an answer may get lost.

    `up` may be set to False and back; `fate` decides about each call, by the name of the method; `away` makes the error
    of the service whose database this is.
    """

    def __init__(self, away: Callable[[str], Exception]) -> None:
        self._away = away
        self.up = True
        self.fate: Callable[[str], Fate] = lambda _: Fate.STORED
        self.aside: dict[str, tuple[str, bytes, str]] = {}

    async def _before(self, method: str) -> Fate:
        # A command is a journey: others go on meanwhile, and may be there first.
        await asyncio.sleep(0)
        fate = self.fate(method)
        if not self.up or fate is Fate.LOST:
            raise self._away("the fake is away")
        return fate

    def _after(self, fate: Fate) -> None:
        if fate is Fate.UNANSWERED:
            raise self._away("the fake is away")

    async def ping(self) -> None:
        """Prove that the database answers."""
        await self._before("ping")


class FakeJobStore(_FakeDatabase):
    """The api-server's jobs, with the methods of `api_server.store.JobStore`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(api_errors.StoreUnavailable)
        self.now = now
        self.jobs: dict[str, Job] = {}
        self.due_at: dict[str, datetime] = {}
        self.owners: dict[str, str] = {}
        self.leases: dict[str, Lease] = {}
        self.moves: list[tuple[str, Status]] = []
        """Every terminal transition that was made, in order: a job in here twice had two outcomes."""

    async def server_time(self) -> datetime:
        """Return the database's own time."""
        await self._before("server_time")
        return self.now()

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]:
        """Return the latest run of each of these objects."""
        fate = await self._before("latest_runs")
        latest: dict[str, Run] = {}
        for job in sorted(self.jobs.values(), key=lambda job: job.run.number):
            if job.run.object_id in object_ids:
                latest[job.run.object_id] = job.run
        self._after(fate)
        return latest

    async def insert(self, jobs: Sequence[Job], due: datetime, owner: str) -> set[str]:
        """Store new jobs; the ids of those that lost their run number to another."""
        fate = await self._before("insert")
        lost = set()
        for job in jobs:
            if job.run.job_id in self.jobs:
                continue
            if any(_same_place(job, other) for other in self.jobs.values()):
                lost.add(job.run.job_id)
                continue
            self.jobs[job.run.job_id] = job
            self.due_at[job.run.job_id] = due
            self.owners[job.run.job_id] = owner
        self._after(fate)
        return lost

    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the jobs with these ids."""
        self._after(await self._before("get"))
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    async def due(self, until: datetime, limit: int) -> list[Job]:
        """Return up to `limit` jobs that must be published by `until`, the longest due first."""
        self._after(await self._before("due"))
        ids = [job_id for job_id, at in sorted(self.due_at.items(), key=lambda item: item[1]) if at <= until]
        return [self.jobs[job_id] for job_id in ids[:limit]]

    async def mark_dispatched(self, job_ids: Sequence[str], dispatches: int, due: datetime) -> None:
        """Note that the broker holds the dispatch with this number."""
        fate = await self._before("mark_dispatched")
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if job is not None and job.status is Status.PROCESSING and job.dispatches < dispatches:
                self.jobs[job_id] = replace(job, dispatches=dispatches)
                self.due_at[job_id] = due
        self._after(fate)

    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int:
        """Have the first dispatch of these jobs made now; how many."""
        fate = await self._before("make_due")
        moved = self._make_due(job_ids, now)
        self._after(fate)
        return moved

    def _make_due(self, job_ids: Sequence[str], now: datetime) -> int:
        moved = 0
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if (
                job is not None
                and job.status is Status.PROCESSING
                and job.dispatches == 1
                and self.due_at[job_id] > now
            ):
                self.jobs[job_id] = replace(job, dispatches=0)
                self.due_at[job_id] = now
                moved += 1
        return moved

    async def renew(self, lease: Lease) -> None:
        """Write an api-server's lease down."""
        fate = await self._before("renew")
        self.leases[lease.owner] = lease
        self._after(fate)

    async def abandoned(self, since: datetime) -> list[Lease]:
        """Return the leases that were renewed before `since` only, the oldest first."""
        self._after(await self._before("abandoned"))
        old = [lease for lease in self.leases.values() if lease.renewed_at < since]
        return sorted(old, key=lambda lease: lease.renewed_at)

    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int:
        """Have the jobs that a lease stands for dispatched, of those that would be overdue before `until`; how many."""
        fate = await self._before("take_over")
        theirs = [
            job_id
            for job_id, at in self.due_at.items()
            if lease.watermark <= at < until and self.owners[job_id] == lease.owner
        ]
        moved = self._make_due(theirs, now)
        self._after(fate)
        return moved

    async def forget(self, lease: Lease) -> None:
        """Delete a lease, unless it was renewed since."""
        fate = await self._before("forget")
        stands = self.leases.get(lease.owner)
        if stands is not None and stands.renewed_at == lease.renewed_at:
            del self.leases[lease.owner]
        self._after(fate)

    async def make_all_due(self, now: datetime) -> int:
        """Have every unfinished job published again; how many."""
        fate = await self._before("make_all_due")
        later = [job_id for job_id, at in self.due_at.items() if at > now]
        self.due_at |= dict.fromkeys(later, now)
        self._after(fate)
        return len(later)

    async def apply(self, status: Status, outcomes: Sequence[Outcome], now: datetime) -> tuple[int, set[str]]:  # noqa: ARG002 - the real one notes the time
        """Bring jobs to a terminal status, only from `processing`."""
        fate = await self._before("apply")
        moved = 0
        for outcome in outcomes:
            job = self.jobs.get(outcome.job_id)
            if job is not None and job.status is Status.PROCESSING:
                self.jobs[outcome.job_id] = replace(job, status=status, sleep_time_used=outcome.sleep_time_used)
                del self.due_at[outcome.job_id]
                self.moves.append((outcome.job_id, status))
                moved += 1
        self._after(fate)
        return moved, {outcome.job_id for outcome in outcomes} - set(self.jobs)

    async def set_aside(self, messages: Sequence[api_service.SetAside]) -> None:
        """Keep messages that cannot be understood."""
        fate = await self._before("set_aside")
        for message in messages:
            self.aside.setdefault(message.key, (message.subject, message.data, message.reason))
        self._after(fate)


def _same_place(one: Job, other: Job) -> bool:
    return (one.run.object_id, one.run.number) == (other.run.object_id, other.run.number)


class FakeOutcomeStore(_FakeDatabase):
    """The job-server's outcomes, with the methods of `job_server.store.OutcomeStore`."""

    def __init__(self) -> None:
        super().__init__(job_errors.StoreUnavailable)
        self.outcomes: dict[str, job_domain.Outcome] = {}

    async def recorded(self, job_ids: Sequence[str]) -> dict[str, job_domain.Outcome]:
        """Return the outcomes that stand for these jobs."""
        self._after(await self._before("recorded"))
        return {job_id: self.outcomes[job_id] for job_id in job_ids if job_id in self.outcomes}

    async def record(self, outcomes: Sequence[job_domain.Outcome]) -> dict[str, job_domain.Outcome]:
        """Record outcomes; those that stood already, by job id."""
        fate = await self._before("record")
        standing = {}
        for outcome in outcomes:
            stands = self.outcomes.setdefault(outcome.job.job_id, outcome)
            if stands is not outcome:
                standing[outcome.job.job_id] = stands
        self._after(fate)
        return standing

    async def set_aside(self, messages: Sequence[job_service.SetAside]) -> None:
        """Keep messages that cannot be understood."""
        fate = await self._before("set_aside")
        for message in messages:
            self.aside.setdefault(message.key, (message.subject, message.data, message.reason))
        self._after(fate)
