"""How a turn's ending becomes its one ending: recorded, published, acknowledged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hasty.jobs import Ending, Status
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing, announcement
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher
from hasty.server.runtime.crash_points import CrashPoint, crash_point
from hasty.server.runtime.logs import get_logger
from job_server.held import Held
from job_server.metrics import ALREADY_ENDED, ENDED

log = get_logger(__name__)

RECORD_BATCH_MAX: Final = 500
RECORD_INTERVAL_S: Final = 0.15
"""A sync of the broker costs as much as dozens of messages: under load, more endings share one."""

RETRY_S: Final = 0.5


class Store(Protocol):
    """What records endings; see `job_server.store.EndingStore`."""

    async def record(self, endings: Sequence[Ending]) -> dict[str, Ending]: ...


class Publisher(Protocol):
    """What publishes endings; see `hasty.server.messaging.publisher.Publisher`."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]: ...


class Acks(Protocol):
    """What acknowledges messages; see `hasty.server.messaging.acks.Acks`."""

    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...


class NotPublished(Exception):
    """The broker did not confirm that it holds an ending; it may hold it."""


class Recorder:
    """Records the endings of held turns in batches; `release` is called with each turn that is done."""

    def __init__(
        self, store: Store, publisher: Publisher, acks: Acks, *, most: int, release: Callable[[Held], None]
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._acks = acks
        self._release = release
        self._records: Batcher[Held, None] = Batcher(
            self._record,
            name="records",
            max_batch=RECORD_BATCH_MAX,
            max_waiting=most + RECORD_BATCH_MAX,
            min_interval_s=RECORD_INTERVAL_S,
        )

    def post(self, held: Held) -> None:
        """Have the ending of a held turn recorded, published and acknowledged."""
        self._records.post(held)

    async def close(self) -> None:
        """Give up what is not done yet."""
        await self._records.close()

    async def _record(self, batch: Sequence[Held]) -> list[None]:
        """Record, publish, acknowledge; again from the start until it is done: each step may be repeated."""
        while True:
            try:
                await self._record_once(batch)
            except (StoreUnavailable, NotPublished) as error:
                # The turns stay held, and their messages ours: heartbeats go on meanwhile.
                log.warning("endings_wait", count=len(batch), reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                return [None] * len(batch)

    async def _record_once(self, batch: Sequence[Held]) -> None:
        crash_point(CrashPoint.JOB_BEFORE_RECORD)
        recorded = await self._store.record([held.ending for held in batch if held.ending is not None])
        crash_point(CrashPoint.JOB_AFTER_RECORD)
        endings = [recorded.get(held.turn.turn_id, held.ending) for held in batch]
        if not all(await self._publisher.publish([announcement(ending) for ending in endings if ending is not None])):
            raise NotPublished("the broker did not confirm every ending")
        crash_point(CrashPoint.JOB_AFTER_PUBLISH)
        # A lost acknowledgement means one more delivery, which finds the ending and publishes it again.
        await self._acks.ack([delivery for held in batch for delivery in held.deliveries])
        crash_point(CrashPoint.JOB_AFTER_ACK)
        # What is recorded may be our own, from before a publish that failed.
        own = Counter(
            "again" if ending.status is Status.PROCESSING else ending.status.value
            for held, ending in zip(batch, endings, strict=True)
            if ending is not None and held.started and _same(ending, held.ending)
        )
        for status, count in own.items():
            ENDED.labels(status).inc(count)
        ALREADY_ENDED.inc(len(batch) - own.total())
        for held in batch:
            self._release(held)


def _same(recorded: Ending, own: Ending | None) -> bool:
    """Whether what is recorded is a process's own ending; what the store keeps of it has no input."""
    return own is not None and (recorded.status, recorded.sleep_time_used, recorded.attempt, recorded.report) == (
        own.status,
        own.sleep_time_used,
        own.attempt,
        own.report,
    )
