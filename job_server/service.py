"""What the job-server does: begin work, record its one outcome, tell it, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from job_server.domain import Ending, Job, Outcome
from job_server.errors import NotPublished, StoreUnavailable
from job_server.metrics import ADOPTED, ENDED, HANDED_BACK, HELD, STARTED
from messaging.events import JobFacts, NotUnderstood, Outgoing, Subject, decode, encode
from messaging.metrics import SET_ASIDE
from runtime.batching import Batcher
from runtime.crash_points import crash_point
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from job_server.work import Stop, Work
    from messaging.jetstream import Delivery

log = get_logger(__name__)

RECORD_AT_ONCE: Final = 500
RECORD_REST_S: Final = 0.15
"""A sync of the broker costs as much as dozens of messages: under load, more outcomes share one."""

FIRST_NEWS_NS: Final = 2_000_000_000
"""A message that the broker has had for longer is not news: whoever had it before may have dealt with it."""

RETRY_S: Final = 0.5
_DATA_KEPT: Final = 64 * 1024

SUBJECT_OF: Final = {Ending.FINISHED: Subject.FINISHED, Ending.CANCELLED: Subject.CANCELLED}


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message that cannot be understood: `data` cut at 64 KiB, `reason` one line."""

    key: str
    subject: str
    data: bytes
    reason: str


class Store(Protocol):
    """What the service needs of its database; see `job_server.store.OutcomeStore`."""

    async def recorded(self, job_ids: Sequence[str]) -> dict[str, Outcome]: ...
    async def record(self, outcomes: Sequence[Outcome]) -> dict[str, Outcome]: ...
    async def set_aside(self, messages: Sequence[SetAside]) -> None: ...


class Broker(Protocol):
    """What the service needs of the broker; see `messaging.jetstream.JetStream`."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]: ...
    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...
    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...
    async def term(self, deliveries: Sequence[Delivery]) -> None: ...
    async def in_progress(self, deliveries: Sequence[Delivery]) -> None: ...


class _Held:
    """A job in this process's hands, from its delivery to its acknowledgement."""

    __slots__ = ("deliveries", "job", "outcome", "stop", "worked")

    def __init__(self, job: Job, delivery: Delivery) -> None:
        self.job = job
        # More than one when the broker believed us dead, or the job was dispatched again: all are acknowledged.
        self.deliveries: tuple[Delivery, ...] = (delivery,)
        self.stop: Stop | None = None
        self.outcome: Outcome | None = None
        # Whether its work was begun here; otherwise another's outcome was found.
        self.worked = False


class Service:
    """Works jobs off: each job is held until its outcome is recorded, told and acknowledged.

    `room_changed` is called whenever a job has left; `now_ns` gives the host's time in nanoseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        work: Work,
        *,
        concurrency: int,
        room_changed: Callable[[], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._broker = broker
        self._work = work
        self._concurrency = concurrency
        self._room_changed = room_changed
        self._now_ns = now_ns
        self._held: dict[str, _Held] = {}
        self._closing = False
        # Bound once: below its level, a call then costs next to nothing.
        self._log = log.bind()
        self._beat_now = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._records: Batcher[_Held, None] = Batcher(
            self._record,
            name="records",
            max_batch=RECORD_AT_ONCE,
            max_waiting=concurrency + RECORD_AT_ONCE,
            rest_s=RECORD_REST_S,
        )
        HELD.set_function(lambda: len(self._held))

    @property
    def room(self) -> int:
        """How many more jobs may be taken now."""
        return 0 if self._closing else max(self._concurrency - len(self._held), 0)

    @property
    def held(self) -> int:
        """How many jobs are in this process's hands."""
        return len(self._held)

    # -- begin ----------------------------------------------------------------------------------------------------

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Begin the work of jobs that were delivered; jobs whose outcome stands are only told again.

        While the database is away, the messages are handed back for later; once the process is ending, at once.
        """
        crash_point("job.after_fetch")
        if self._closing:
            await self._broker.nak(deliveries)
            return
        understood: list[tuple[Delivery, Job]] = []
        nonsense: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                facts = decode(delivery.subject, delivery.data)
            except NotUnderstood as error:
                nonsense.append((delivery, str(error)))
            else:
                understood.append((delivery, Job(facts.job_id, facts.object_id, facts.timestamp)))
        try:
            if nonsense:
                await self._set_aside(nonsense, "not_understood")
            # Only an outcome that may exist is looked for.
            asked = [job.job_id for delivery, job in understood if not self._is_first_news(delivery, job)]
            recorded = await self._store.recorded(asked) if asked else {}
        except StoreUnavailable as error:
            log.warning("jobs_not_begun", count=len(deliveries), reason=str(error))
            await self._broker.nak(deliveries, delay_s=1)
            await asyncio.sleep(RETRY_S)
            return
        STARTED.inc(sum(self._begin(delivery, job, recorded.get(job.job_id)) for delivery, job in understood))

    def _is_first_news(self, delivery: Delivery, job: Job) -> bool:
        """Whether nobody can have heard of this job before: its first dispatch, delivered first, and just now.

        Where the clocks of broker and host differ, this is wrong at times, and costs a look-up or a second run of the
        work, whose outcome is not recorded.
        """
        return (
            delivery.attempt == 1
            and delivery.message_id == f"{job.job_id}:1"
            and abs(self._now_ns() - delivery.stored_ns) < FIRST_NEWS_NS
        )

    def _begin(self, delivery: Delivery, job: Job, outcome: Outcome | None) -> bool:
        """Begin a job's work, unless it is under way here or its outcome stands; whether it was begun."""
        if held := self._held.get(job.job_id):
            held.deliveries = (*held.deliveries, delivery)
            return False
        held = self._held[job.job_id] = _Held(job, delivery)
        self._idle.clear()
        if outcome is not None:
            held.outcome = outcome
            self._records.post(held)
            return False
        held.worked = True
        self._log.debug("job_started", job_id=job.job_id, object_id=job.object_id, attempt=delivery.attempt)
        held.stop = self._work(job, partial(self._ended, held))
        crash_point("job.mid_work")
        return True

    async def give_up(self, delivery: Delivery, reason: str) -> None:
        """Set a message aside that could not be dealt with for a reason that nobody foresaw.

        Raises:
            StoreUnavailable: when the database fails; the message is delivered again then.
        """
        await self._set_aside([(delivery, reason)], "defect")

    async def _set_aside(self, nonsense: Sequence[tuple[Delivery, str]], kind: str) -> None:
        await self._store.set_aside(
            [
                SetAside(delivery.key, delivery.subject, delivery.data[:_DATA_KEPT], reason)
                for delivery, reason in nonsense
            ]
        )
        for delivery, reason in nonsense:
            SET_ASIDE.labels(kind).inc()
            log.warning("message_set_aside", subject=delivery.subject, sequence=delivery.stream_sequence, reason=reason)
        await self._broker.term([delivery for delivery, _ in nonsense])

    # -- end ------------------------------------------------------------------------------------------------------

    def _ended(self, held: _Held, ending: Ending, took_s: float) -> None:
        held.stop = None
        held.outcome = Outcome(held.job, ending, took_s, held.deliveries[-1].attempt)
        self._log.debug(
            "job_ended",
            job_id=held.job.job_id,
            object_id=held.job.object_id,
            attempt=held.outcome.attempt,
            status=ending.value,
            duration_s=took_s,
        )
        self._records.post(held)

    async def _record(self, batch: Sequence[_Held]) -> list[None]:
        """Record, tell, acknowledge; again from the start until it is done: each step may be repeated."""
        while True:
            try:
                await self._record_once(batch)
            except (StoreUnavailable, NotPublished) as error:
                # The jobs stay held, and their messages ours: `beat` goes on meanwhile.
                log.warning("outcomes_wait", count=len(batch), reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                return [None] * len(batch)

    async def _record_once(self, batch: Sequence[_Held]) -> None:
        crash_point("job.before_outcome")
        standing = await self._store.record([held.outcome for held in batch if held.outcome is not None])
        crash_point("job.after_outcome")
        told = [standing.get(held.job.job_id, held.outcome) for held in batch]
        if not all(await self._broker.publish([_event(outcome) for outcome in told if outcome is not None])):
            raise NotPublished("the broker did not confirm every outcome")
        crash_point("job.after_publish")
        # A lost acknowledgement means one more delivery, which finds the outcome and tells it again.
        await self._broker.ack([delivery for held in batch for delivery in held.deliveries])
        crash_point("job.after_ack")
        # What stands may be our own, recorded before a publish that failed.
        own = Counter(
            outcome.ending.value
            for held, outcome in zip(batch, told, strict=True)
            if outcome is not None and held.worked and outcome == held.outcome
        )
        for status, count in own.items():
            ENDED.labels(status).inc(count)
        ADOPTED.inc(len(batch) - own.total())
        for held in batch:
            self._let_go(held)

    def _let_go(self, held: _Held) -> None:
        self._held.pop(held.job.job_id, None)
        if not self._held:
            self._idle.set()
        self._room_changed()

    # -- stay alive, and stop -------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Tell the broker that every held job is still being worked on."""
        deliveries = [delivery for held in self._held.values() for delivery in held.deliveries]
        await self._broker.in_progress(deliveries)

    async def run_heart(self, ack_wait_s: float) -> None:
        """Beat for ever, every third of the acknowledgement wait: silence then means death or freezing."""
        while True:
            self._beat_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ack_wait_s / 3):
                    await self._beat_now.wait()
            await self.beat()

    def beat_now(self) -> None:
        """Have the next beat come at once: the broker is back, and may have missed some."""
        self._beat_now.set()

    async def finish_or(self, grace_s: float) -> None:
        """Take nothing more, and give the held jobs `grace_s` seconds to end."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()

    async def hand_back(self) -> None:
        """Stop the work that is left and hand it back, so that another worker begins it at once."""
        left = list(self._held.values())
        for held in left:
            if held.stop is not None:
                held.stop()
        await self._records.close()
        await self._broker.nak([delivery for held in left for delivery in held.deliveries])
        if left:
            log.info("jobs_handed_back", count=len(left))
        HANDED_BACK.inc(len(left))
        self._held.clear()
        self._idle.set()


def _event(outcome: Outcome) -> Outgoing:
    """Write an outcome's event. It has no message id: one told again must get through, whatever became of the first."""
    slept = outcome.sleep_time_used
    subject = SUBJECT_OF[outcome.ending]
    facts = JobFacts(
        id=outcome.job.job_id,
        job_id=outcome.job.job_id,
        object_id=outcome.job.object_id,
        status=outcome.ending.value,
        timestamp=outcome.job.timestamp,
        sleep_time_used=int(slept) if slept == int(slept) else slept,
    )
    return Outgoing(subject.value, encode(subject, facts))
