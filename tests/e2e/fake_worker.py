"""A job-server's side of the wire, for kinds that a test makes up: what it runs is the test's to say."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hasty.jobs import Ending, Failure, Kind, Reason, Report, Status, Turn
from hasty.server.messaging.acks import Acks
from hasty.server.messaging.connection import Connection
from hasty.server.messaging.consumer import PullConsumer, consume
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import announced_kind, announcement, decode_turn
from hasty.server.messaging.publisher import Publisher
from hasty.server.messaging.topology import JOB_CANCEL, work_durable

NAME = "a-worker"
PULSE_EVERY_S = 0.5


@dataclass
class Worker:
    """A worker of some kinds: `work` says how a turn ends, or None, and then it runs until it is cancelled.

    It may be `muted`, and then nobody hears of it; not `taking` anything; and `full`, by what it says.
    """

    connection: Connection
    kinds: Mapping[str, Kind]
    work: Callable[[Turn], Ending | None]
    running: dict[str, Turn] = field(default_factory=dict)
    seen: list[Turn] = field(default_factory=list)
    started_at: float = field(default_factory=time.time)
    muted: bool = False
    taking: bool = True
    full: bool = False

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Run turns."""
        turns = [decode_turn(delivery.subject, delivery.data) for delivery in deliveries]
        self.seen += turns
        endings = {turn.job_id: self.work(turn) for turn in turns}
        self.running |= {turn.job_id: turn for turn in turns if endings[turn.job_id] is None}
        await self.pulse()
        await self.end(*(ending for ending in endings.values() if ending is not None))
        await Acks(self.connection).ack(deliveries)

    async def cancel(self, deliveries: Sequence[Delivery]) -> None:
        """Cancel turns."""
        turns = [decode_turn(delivery.subject, delivery.data) for delivery in deliveries]
        await self.end(*(ending_of(turn, Status.CANCELLED) for turn in turns))
        await Acks(self.connection).ack(deliveries)

    async def end(self, *endings: Ending) -> None:
        """Publish endings."""
        for ending in endings:
            self.running.pop(ending.job_id, None)
        assert all(await Publisher(self.connection).publish([announcement(ending) for ending in endings]))

    async def announce(self) -> None:
        """Announce the kinds."""
        messages = [announced_kind(kind) for kind in self.kinds.values()]
        assert all(await Publisher(self.connection).publish(messages))

    async def pulse(self) -> None:
        """Say what it is and runs."""
        now = time.time()
        pulse = {
            "worker": NAME,
            "at": now,
            "kinds": {name: kind.version for name, kind in self.kinds.items()},
            "slots": dict.fromkeys(self.kinds, 0 if self.full else 100),
            "free": 0 if self.full else 100,
            "held": len(self.running),
            "running": [
                [turn.job_id, turn.number, turn.task.attempt if turn.task else 1, 1, self.started_at, 0.5, "half"]
                for turn in self.running.values()
            ],
            "part": [0, 1],
        }
        if self.muted:
            return
        await self.connection.publish_core("hasty.pulse", json.dumps(pulse).encode())

    async def send_pulses(self) -> None:
        """Say so again and again."""
        while True:
            await self.pulse()
            await asyncio.sleep(PULSE_EVERY_S)


@asynccontextmanager
async def working(url: str, kinds: Sequence[Kind], work: Callable[[Turn], Ending | None]) -> AsyncIterator[Worker]:
    """A worker at a broker until the block is left."""
    async with Connection.opened(url, name=NAME) as connection:
        # A wrong login is tried again for ever.
        async with asyncio.timeout(20):
            await connection.until_connected()
        worker = Worker(connection, {kind.name: kind for kind in kinds}, work)
        await worker.announce()
        consumers = {
            PullConsumer(connection, work_durable(kind.name), free_slots=lambda _: 100 if worker.taking else 0): (
                worker.take
            )
            for kind in kinds
        }
        consumers[PullConsumer(connection, JOB_CANCEL, free_slots=lambda _: 100)] = worker.cancel
        tasks = [asyncio.create_task(consume(consumer, handle, _unexpected)) for consumer, handle in consumers.items()]
        tasks.append(asyncio.create_task(worker.send_pulses()))
        try:
            yield worker
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def ending_of(
    turn: Turn,
    status: Status = Status.FINISHED,
    *,
    output: str | None = None,
    error: str | None = None,
    delay_s: float = 0,
) -> Ending:
    """End a turn, as a job-server reports it."""
    failure = None if error is None else Failure(Reason.EXCEPTION, "ValueError", error, f"ValueError: {error}")
    now = time.time()
    report = Report(NAME, "v1", now - 1, now, output=output, failure=failure, delay_s=delay_s)
    return Ending(turn, status, 1, report=report)


async def _unexpected(delivery: Delivery, reason: str) -> None:
    raise AssertionError(f"{delivery.subject}: {reason}")
