"""What the api-server does: admit, tell, dispatch, report. Each use case loads, decides and saves."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from api_server import domain
from api_server.domain import Admit, Job, Lease, Outcome, Run, Status, TooSoon
from api_server.errors import Busy, StoreUnavailable, TooSoonError
from api_server.metrics import ACCEPTED, APPLIED, DISPATCHED, REFUSED
from messaging.events import JobFacts, NotUnderstood, Outgoing, Subject, decode, encode
from messaging.metrics import SET_ASIDE
from runtime.batching import Batcher, Overloaded
from runtime.crash_points import crash_point
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from messaging.jetstream import Delivery

log = get_logger(__name__)

PATIENCE_S: Final = 2.5
"""Seconds until a caller is told to try later, plus an eighth: within 3 seconds, whatever hangs."""

LEASE: Final = timedelta(seconds=5)
"""How long an api-server has the first dispatch of its new jobs to itself, from each renewal of its lease on.

Taking them over too early does no harm: both publish under the same message id, and the broker keeps one.
"""

RENEW_EVERY: Final = timedelta(seconds=2)
KEEP_EVERY_S: Final = 1.0

CLOCK_SLACK: Final = timedelta(seconds=1)
"""The database's time, as a process reckons it, may go back by a little when it is learned anew."""

ASKED_AGAIN: Final = 5
"""An insert that got no answer may still come: so often, once a second, such jobs are looked for to be made due."""

SWEEP_EVERY_S: Final = 1.0
SWEEP_SIZE: Final = 500
ADMIT_AT_ONCE: Final = 128
TELL_AT_ONCE: Final = 256
DISPATCH_AT_ONCE: Final = 500
DISPATCH_REST_S: Final = 0.15
"""A sync of the broker costs as much as dozens of messages: under load, more of them share one."""

WAITING_MAX: Final = 10_000
PAUSE_AFTER_FAILURE_S: Final = 0.5
NO_SUCH_JOB: Final = "no such job"
_DATA_KEPT: Final = 64 * 1024

STATUS_OF: Final = {Subject.FINISHED: Status.FINISHED, Subject.CANCELLED: Status.CANCELLED}


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message that cannot be understood: `key` is unique, `data` cut at 64 KiB, `reason` one line."""

    key: str
    subject: str
    data: bytes
    reason: str
    at: datetime


class Store(Protocol):
    """What the service needs of its database; see `api_server.store.JobStore`."""

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]: ...
    async def insert(self, jobs: Sequence[Job], due: datetime, owner: str) -> set[str]: ...
    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]: ...
    async def due(self, until: datetime, limit: int) -> list[Job]: ...
    async def mark_dispatched(self, job_ids: Sequence[str], dispatches: int, due: datetime) -> None: ...
    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int: ...
    async def make_all_due(self, now: datetime) -> int: ...
    async def renew(self, lease: Lease) -> None: ...
    async def abandoned(self, since: datetime) -> list[Lease]: ...
    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int: ...
    async def forget(self, lease: Lease) -> None: ...
    async def apply(self, status: Status, outcomes: Sequence[Outcome], now: datetime) -> tuple[int, set[str]]: ...
    async def set_aside(self, messages: Sequence[SetAside]) -> None: ...


class Broker(Protocol):
    """What the service needs of the broker; see `messaging.jetstream.JetStream`."""

    @property
    def connected(self) -> bool: ...
    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]: ...
    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...
    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...
    async def term(self, deliveries: Sequence[Delivery]) -> None: ...


def new_job_id() -> str:
    """Return a fresh job id: a UUID of version 7 (RFC 9562), of which 74 bits are chance.

    It begins with the time, so that new jobs meet in the same few pages of an index of millions.
    """
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(74)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | chance >> 62 << 64 | 2 << 62 | chance & (1 << 62) - 1))


class Service:
    """The api-server's use cases over a store and a broker.

    `now` gives the database's time; it raises `StoreUnavailable` while that is unknown. `name` says in leases and jobs
    whose they are.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        *,
        now: Callable[[], datetime],
        cooldown: timedelta,
        overdue: timedelta,
        new_id: Callable[[], str] = new_job_id,
        name: str = "api-server",
    ) -> None:
        self._store = store
        self._broker = broker
        self._now = now
        self._cooldown = cooldown
        self._overdue = overdue
        self._new_id = new_id
        self._admissions: Batcher[str, str] = Batcher(
            self._admit,
            name="admissions",
            max_batch=ADMIT_AT_ONCE,
            max_waiting=WAITING_MAX,
            patience_s=PATIENCE_S,
            impatience=StoreUnavailable,
        )
        self._tellings: Batcher[str, Job | None] = Batcher(
            self._tell,
            name="tellings",
            max_batch=TELL_AT_ONCE,
            max_waiting=WAITING_MAX,
            patience_s=PATIENCE_S,
            impatience=StoreUnavailable,
        )
        self._dispatches: Batcher[Job, None] = Batcher(
            self._dispatch_new,
            name="dispatches",
            max_batch=DISPATCH_AT_ONCE,
            max_waiting=WAITING_MAX,
            rest_s=DISPATCH_REST_S,
        )
        # Not the name alone: a container that is started again has the same one, and must not renew what it left.
        self._owner = f"{name}-{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        # New jobs of which it is not certain yet that the broker holds them, and when they would be overdue.
        self._unsettled: dict[str, datetime] = {}
        # Those among them that did not get there, and how often they are still to be made due.
        self._failed: dict[str, int] = {}
        self._sweep_now = asyncio.Event()

    # -- admit and tell -------------------------------------------------------------------------------------------

    def submit(self, object_id: str) -> asyncio.Future[str]:
        """Make a job for an object; the future gets its id, when it is on disk.

        Raises:
            TooSoonError: in the future: within the cooldown of the object's latest job.
            StoreUnavailable: in the future: when the database fails; the job may or may not exist then.
            Busy: at once: when too many requests wait already.
        """
        try:
            return self._admissions.submit(object_id)
        except Overloaded:
            raise Busy from None

    def find(self, job_id: str) -> asyncio.Future[Job | None]:
        """Look a job up; the future gets it, or None when there is none with this id.

        Raises:
            StoreUnavailable: in the future: when the database fails.
            Busy: at once: when too many requests wait already.
        """
        try:
            return self._tellings.submit(job_id)
        except Overloaded:
            raise Busy from None

    async def _tell(self, job_ids: Sequence[str]) -> list[Job | None]:
        jobs = await self._store.get(list(set(job_ids)))
        return [jobs.get(job_id) for job_id in job_ids]

    async def _admit(self, object_ids: Sequence[str]) -> list[str | Exception]:
        """Decide on requests in their order; one look-up and one insert for all, again for those who lost a race."""
        decided: dict[int, str | TooSoon] = {}
        while len(decided) < len(object_ids):
            open_requests = [(n, object_id) for n, object_id in enumerate(object_ids) if n not in decided]
            now = self._now()
            latest = await self._store.latest_runs(list({object_id for _, object_id in open_requests}))
            # Without a broker, a job is due from the first.
            dispatches = 1 if self._broker.connected else 0
            jobs: dict[int, Job] = {}
            refused: dict[int, TooSoon] = {}
            for n, object_id in open_requests:
                match domain.admit(latest.get(object_id), now, self._cooldown):
                    case Admit(number):
                        jobs[n] = Job(Run(object_id, number, self._new_id(), now), dispatches=dispatches)
                        latest[object_id] = jobs[n].run
                    case TooSoon() as too_soon:
                        refused[n] = too_soon
            lost = await self._insert(list(jobs.values())) if jobs else set()
            stored = [job for job in jobs.values() if job.run.job_id not in lost]
            self._dispatch(stored)
            decided |= {n: job.run.job_id for n, job in jobs.items() if job.run.job_id not in lost}
            # A refusal may have named a job of this very batch that lost its place: then it is decided again.
            decided |= {n: too_soon for n, too_soon in refused.items() if too_soon.job_id not in lost}
            ACCEPTED.inc(len(stored))
        return [_told(decided[n]) for n in range(len(object_ids))]

    async def _insert(self, jobs: Sequence[Job]) -> set[str]:
        """Store new jobs as dispatched, ahead of their dispatch: until then, the lease stands for them."""
        now = self._now()
        if not self._renewed_within(LEASE, now):
            await self._renew()
            now = self._now()
        due = now + domain.overdue_after(1, self._overdue) if jobs[0].dispatches else now
        job_ids = [job.run.job_id for job in jobs]
        self._unsettled |= dict.fromkeys(job_ids, due)
        try:
            lost = await self._store.insert(jobs, due, self._owner)
        except BaseException:
            self._failed |= dict.fromkeys(job_ids, ASKED_AGAIN)
            raise
        self._settle(lost if jobs[0].dispatches else job_ids)
        return lost

    # -- dispatch -------------------------------------------------------------------------------------------------

    def _settle(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._unsettled.pop(job_id, None)
            self._failed.pop(job_id, None)

    def _dispatch(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if not job.dispatches:
                continue
            try:
                self._dispatches.post(job)
            except Overloaded:
                # The job is its own outbox: a sweep takes it.
                self._failed[job.run.job_id] = 1

    async def _dispatch_new(self, jobs: Sequence[Job]) -> list[None]:
        held = [False] * len(jobs)
        try:
            crash_point("api.before_publish")
            held = await self._broker.publish([_created(job, job.dispatches) for job in jobs])
            crash_point("api.after_publish")
        finally:
            self._settle(job.run.job_id for job, is_held in zip(jobs, held, strict=True) if is_held)
            lost = (job.run.job_id for job, is_held in zip(jobs, held, strict=True) if not is_held)
            # One that is settled all the same has ended meanwhile.
            self._failed |= {job_id: 1 for job_id in lost if job_id in self._unsettled}
        DISPATCHED.labels("first").inc(sum(held))
        return [None] * len(jobs)

    async def keep_lease(self) -> None:
        """Renew the lease, make due what did not reach the broker, take over from those who renew theirs no more."""
        renewed = self._renewed_within(RENEW_EVERY, self._now())
        if not renewed:
            await self._renew()
        await self._make_failed_due()
        if not renewed:
            await self._take_over()

    async def _take_over(self) -> None:
        for lease in await self._store.abandoned(self._now() - LEASE):
            now = self._now()
            taken = await self._store.take_over(lease, now, now + domain.overdue_after(1, self._overdue))
            await self._store.forget(lease)
            log.info("lease_taken_over", owner=lease.owner, jobs=taken)
            self._sweep_now.set()

    def _renewed_within(self, span: timedelta, now: datetime) -> bool:
        # The database's clock may be set back.
        return self._lease is not None and self._lease.renewed_at <= now < self._lease.renewed_at + span

    async def _renew(self) -> None:
        now = self._now()
        # The next one's time counts as well: the clock may have been set back since the others' were reckoned.
        in_doubt_from = min([*self._unsettled.values(), now + domain.overdue_after(1, self._overdue)])
        lease = Lease(self._owner, now, in_doubt_from - CLOCK_SLACK)
        await self._store.renew(lease)
        self._lease = lease

    async def _make_failed_due(self) -> None:
        failed = list(self._failed)
        for start in range(0, len(failed), SWEEP_SIZE):
            chunk = failed[start : start + SWEEP_SIZE]
            await self._store.make_due(chunk, self._now())
            self._sweep_now.set()
            for job_id in chunk:
                left = self._failed.pop(job_id, 0) - 1
                if left > 0:
                    self._failed[job_id] = left
                else:
                    self._unsettled.pop(job_id, None)

    def broker_is_back(self) -> None:
        """Have the next sweep come at once."""
        self._sweep_now.set()

    async def sweep(self) -> int:
        """Publish what is due, whatever the reason; how many the broker holds now."""
        if not self._broker.connected:
            return 0
        found = await self._store.due(self._now(), SWEEP_SIZE)
        on_the_way = self._unsettled.keys() - self._failed.keys()
        jobs = [job for job in found if job.run.job_id not in on_the_way]
        if not jobs:
            return 0
        crash_point("api.dispatcher_selected")
        held = await self._broker.publish([_created(job, job.dispatches + 1) for job in jobs])
        by_number: dict[int, list[str]] = {}
        for job, is_held in zip(jobs, held, strict=True):
            if is_held:
                by_number.setdefault(job.dispatches + 1, []).append(job.run.job_id)
        for number, job_ids in by_number.items():
            due = self._now() + domain.overdue_after(number, self._overdue)
            await self._store.mark_dispatched(job_ids, number, due)
            self._settle(job_ids)
        rescued = sum(held)
        DISPATCHED.labels("rescue").inc(rescued)
        if rescued:
            log.info("dispatched_due_jobs", count=rescued, unknown=len(jobs) - rescued)
        return rescued

    async def run_dispatcher(self) -> None:
        """Sweep for ever: every second, at once while there is more, and at once when the broker is back."""
        while True:
            try:
                if await self.sweep() == SWEEP_SIZE:
                    continue
            except StoreUnavailable as error:
                log.warning("sweep_failed", reason=error.reason)
            self._sweep_now.clear()
            await _wait_or(self._sweep_now, SWEEP_EVERY_S)

    async def run_keeper(self) -> None:
        """Keep the lease for ever."""
        while True:
            try:
                await self.keep_lease()
            except StoreUnavailable as error:
                log.warning("lease_not_kept", reason=error.reason, unsettled=len(self._unsettled))
            await asyncio.sleep(KEEP_EVERY_S)

    async def broker_lost_everything(self) -> None:
        """Have every unfinished job dispatched again: the stream is a new one."""
        count = await self._store.make_all_due(self._now())
        # At the very first start the stream is new as well, and nobody has lost anything.
        tell = log.warning if count else log.info
        tell("stream_is_new", unfinished_jobs_due=count)
        self._sweep_now.set()

    async def finish_dispatching(self) -> None:
        """Let what is on its way reach the broker, make the rest due, and give the lease back; for a clean end."""
        await self._dispatches.drain()
        await self._make_failed_due()
        lease, self._lease = self._lease, None
        if lease is not None and not self._unsettled:
            await self._store.forget(lease)

    # -- report ---------------------------------------------------------------------------------------------------

    async def report(self, subject: Subject, deliveries: Sequence[Delivery]) -> None:
        """Bring jobs up to date by outcomes that came on one subject, then acknowledge.

        What cannot be understood, or is about a job that does not exist, is set aside.
        """
        told: list[tuple[Delivery, Outcome]] = []
        nonsense: list[tuple[Delivery, str]] = []
        status = STATUS_OF[subject]
        for delivery in deliveries:
            try:
                job = decode(delivery.subject, delivery.data)
            except NotUnderstood as error:
                nonsense.append((delivery, str(error)))
            else:
                told.append((delivery, Outcome(job.job_id, status, job.sleep_time_used)))
        try:
            if told:
                crash_point("api.before_outcome_write")
                moved, unknown = await self._store.apply(status, [outcome for _, outcome in told], self._now())
                crash_point("api.after_outcome_write")
                APPLIED.labels(status.value).inc(moved)
                self._settle(outcome.job_id for _, outcome in told)
                nonsense += [(delivery, NO_SUCH_JOB) for delivery, outcome in told if outcome.job_id in unknown]
                told = [(delivery, outcome) for delivery, outcome in told if outcome.job_id not in unknown]
            if nonsense:
                await self._store.set_aside([self._aside(delivery, reason) for delivery, reason in nonsense])
        except StoreUnavailable as error:
            log.warning("outcomes_not_written", count=len(deliveries), reason=error.reason)
            await self._broker.nak(deliveries, delay_s=1)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        if nonsense:
            for delivery, reason in nonsense:
                SET_ASIDE.labels("unknown_job" if reason == NO_SUCH_JOB else "not_understood").inc()
                log.warning("message_set_aside", subject=subject, sequence=delivery.stream_sequence, reason=reason)
            await self._broker.term([delivery for delivery, _ in nonsense])
        await self._broker.ack([delivery for delivery, _ in told])

    async def give_up(self, delivery: Delivery, reason: str) -> None:
        """Set a message aside that could not be dealt with for a reason that nobody foresaw.

        Raises:
            StoreUnavailable: when the database fails; the message is delivered again then.
        """
        await self._store.set_aside([self._aside(delivery, reason)])
        SET_ASIDE.labels("defect").inc()
        await self._broker.term([delivery])

    def _aside(self, delivery: Delivery, reason: str) -> SetAside:
        return SetAside(delivery.key, delivery.subject, delivery.data[:_DATA_KEPT], reason, self._now())


async def _wait_or(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _told(decision: str | TooSoon) -> str | Exception:
    if isinstance(decision, str):
        return decision
    REFUSED.inc()
    return TooSoonError(decision)


def _created(job: Job, number: int) -> Outgoing:
    """Write a dispatch of a job; its number makes the message id, so the broker drops a repetition."""
    run = job.run
    facts = JobFacts(
        id=run.job_id,
        job_id=run.job_id,
        object_id=run.object_id,
        status=job.status.value,
        timestamp=int(run.created_at.timestamp()),
        sleep_time_used=0,
    )
    return Outgoing(Subject.CREATED.value, encode(Subject.CREATED, facts), f"{run.job_id}:{number}")
