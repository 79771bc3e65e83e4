"""The outbox: what is stored is published, at once where possible and by a sweep where not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server import lease
from api_server.domain import overdue_after
from api_server.lease import LeaseKeeper
from api_server.metrics import DISPATCHED
from api_server.sweep_claim import Claims, SweepClaim
from hasty.jobs import Job
from hasty.server.messaging.events import Outgoing, dispatch
from hasty.server.messaging.topology import STREAM
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher, Overloaded
from hasty.server.runtime.crash_points import CrashPoint, crash_point
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

SWEEP_EVERY_S: Final = 1.0
SWEEP_SIZE: Final = 500
DISPATCH_BATCH_MAX: Final = 500
DISPATCH_INTERVAL_S: Final = 0.15
"""A sync of the broker costs as much as dozens of messages: under load, more of them share one."""

WAITING_MAX: Final = 10_000

CANCEL_AGAIN: Final = timedelta(seconds=10)
"""A cancellation is published again so long after the last time, until the job has ended."""

NOTHING_SCHEDULED: Final[Mapping[str, datetime]] = {}


class Jobs(lease.Jobs, Protocol):
    """What the outbox needs of the jobs; see `api_server.store.jobs.JobStore`."""

    async def insert(
        self, jobs: Sequence[Job], due: datetime, owner: str, scheduled: Mapping[str, datetime]
    ) -> set[str]: ...
    async def due(self, until: datetime, limit: int) -> list[Job]: ...
    async def mark_dispatched(
        self, job_ids: Sequence[str], dispatches: int, due: datetime, *, turn: int, cancelling: bool
    ) -> None: ...
    async def postpone(self, turns: Mapping[str, int], due: datetime) -> None: ...
    async def make_all_due(self, now: datetime, *, tasks_only: bool) -> int: ...


class Leases(lease.Leases, Claims, Protocol):
    """What the outbox needs of the leases; see `api_server.store.leases.LeaseStore`."""


class Publisher(Protocol):
    """What the outbox needs of the broker; see `hasty.server.messaging.publisher.Publisher`."""

    @property
    def connected(self) -> bool: ...
    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]: ...


class Outbox:
    """Stores jobs under this api-server's lease and publishes what is due.

    `now` gives the database's time; it raises `StoreUnavailable` while that is unknown. `overdue` is how long after its
    first dispatch a job without an ending is dispatched again; one whose present turn runs, as a worker says and
    `is_running` knows, gets that time again. `name` begins the owner's name in leases and jobs.
    """

    def __init__(
        self,
        jobs: Jobs,
        leases: Leases,
        publisher: Publisher,
        *,
        now: Callable[[], datetime],
        overdue: timedelta,
        is_running: Callable[[Job], bool] = lambda _: False,
        name: str = "api-server",
    ) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._now = now
        self._overdue = overdue
        self._is_running = is_running
        self._sweep_now = asyncio.Event()
        self.lease = LeaseKeeper(leases, jobs, now=now, overdue=overdue, name=name, on_due=self.sweep_soon)
        self.sweep_claim = SweepClaim(leases, owner=self.lease.owner, now=now)
        # Turns whose first publish by a sweep is not known to have come to anything.
        self._unanswered: set[str] = set()
        self._dispatches: Batcher[Job, None] = Batcher(
            self._dispatch_new,
            name="dispatches",
            max_batch=DISPATCH_BATCH_MAX,
            max_waiting=WAITING_MAX,
            min_interval_s=DISPATCH_INTERVAL_S,
        )

    @property
    def dispatches_of_new(self) -> int:
        """How many dispatches a new job is stored with: one in advance; without a broker none, so that it is due."""
        return 1 if self._publisher.connected else 0

    async def store(self, jobs: Sequence[Job], scheduled: Mapping[str, datetime] = NOTHING_SCHEDULED) -> set[str]:
        """Store new jobs and publish them; the ids of those that lost their run number.

        Those that count a dispatch are stored as dispatched, in advance: until it has happened, the lease covers them.
        The others wait for a sweep: those in `scheduled`, by id, for the first one after their time.
        """
        await self.lease.ensure()
        now = self._now()
        overdue = now + overdue_after(1, self._overdue)
        counted = [job for job in jobs if job.dispatches > 0]
        dues = (
            scheduled
            if len(counted) == len(jobs)
            else {
                **{job.job_id: now for job in jobs if job.dispatches == 0},
                **scheduled,
            }
        )
        job_ids = [job.job_id for job in counted]
        self.lease.expect(job_ids, overdue)
        try:
            lost = await self._jobs.insert(jobs, overdue, self.lease.owner, dues)
        except BaseException:
            self.lease.note_insert_unknown(job_ids)
            raise
        self.lease.confirm(lost)
        self._dispatch(job for job in counted if job.job_id not in lost)
        return lost

    def confirm(self, job_ids: Iterable[str]) -> None:
        """Note that these jobs need no dispatch any more."""
        self.lease.confirm(job_ids)

    def _dispatch(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            try:
                self._dispatches.post(job)
            except Overloaded:
                # The job is its own outbox: a sweep takes it.
                self.lease.note_not_published([job.job_id])

    async def _dispatch_new(self, jobs: Sequence[Job]) -> list[None]:
        held = [False] * len(jobs)
        try:
            crash_point(CrashPoint.API_BEFORE_PUBLISH)
            # If this process stood still since, others have published them, and the broker may have forgotten that.
            again = self.lease.may_have_run_out
            held = await self._publisher.publish([dispatch(job, job.dispatches, again=again) for job in jobs])
            crash_point(CrashPoint.API_AFTER_PUBLISH)
        finally:
            self.lease.confirm(job.job_id for job, is_held in zip(jobs, held, strict=True) if is_held)
            self.lease.note_not_published(job.job_id for job, is_held in zip(jobs, held, strict=True) if not is_held)
        DISPATCHED.labels("first").inc(sum(held))
        return [None] * len(jobs)

    # -- what is due ----------------------------------------------------------------------------------------------

    def sweep_soon(self) -> None:
        """Have the next sweep come at once."""
        self._sweep_now.set()

    async def sweep(self) -> int:
        """Publish what is due, whatever the reason; how many need nothing more for now."""
        if not self._publisher.connected:
            return 0
        found = await self._jobs.due(self._now(), SWEEP_SIZE)
        due = [job for job in found if not self.lease.in_flight(job.job_id)]
        jobs = await self._postpone_running(due)
        messages = [dispatch(job, job.dispatches + 1, again=self._may_be_repeated(job)) for job in jobs]
        # Those of before that are not marked yet are due the longest, and found again.
        self._unanswered = {job.turn.turn_id for job in jobs if job.dispatches == 0}
        if len(found) < SWEEP_SIZE:
            self.sweep_claim.inherited = False
        if not jobs:
            return len(due)
        crash_point(CrashPoint.API_DUE_SELECTED)
        held = await self._publisher.publish(messages)
        await self._mark_dispatched([job for job, is_held in zip(jobs, held, strict=True) if is_held])
        self._unanswered -= {job.turn.turn_id for job, is_held in zip(jobs, held, strict=True) if is_held}
        published = sum(held)
        self.sweep_claim.note(published=published > 0)
        DISPATCHED.labels("rescue").inc(published)
        if published:
            log.info("dispatched_due_jobs", count=published, unknown=len(jobs) - published)
        return published + len(due) - len(jobs)

    def _may_be_repeated(self, job: Job) -> bool:
        """Whether a first publish of the job's turn may have reached a broker that has forgotten it since."""
        claim = self.sweep_claim
        return job.dispatches == 0 and (
            job.unanswered_turn == job.turn_number
            or job.turn.turn_id in self._unanswered
            or claim.inherited
            or claim.may_have_run_out
        )

    async def _postpone_running(self, jobs: Sequence[Job]) -> list[Job]:
        """Give those jobs more time of which a worker says that it runs their present turn; the others."""
        running = {job.job_id: job.turn_number for job in jobs if job.cancel_at is None and self._is_running(job)}
        if not running:
            return list(jobs)
        await self._jobs.postpone(running, self._now() + self._overdue)
        return [job for job in jobs if job.job_id not in running]

    async def _mark_dispatched(self, jobs: Iterable[Job]) -> None:
        alike: dict[tuple[int, int, bool], list[str]] = {}
        for job in jobs:
            alike.setdefault((job.dispatches + 1, job.turn_number, job.cancel_at is not None), []).append(job.job_id)
        for (number, turn, cancelling), job_ids in alike.items():
            wait = CANCEL_AGAIN if cancelling else overdue_after(number, self._overdue)
            due = self._now() + min(wait, overdue_after(number, self._overdue))
            await self._jobs.mark_dispatched(job_ids, number, due, turn=turn, cancelling=cancelling)
            self.lease.confirm(job_ids)

    async def run_sweeps(self) -> None:
        """Sweep for ever, every second, and at once while there is more or when asked to; unless another one does.

        Without a broker there is nothing to claim: another api-server may have one.
        """
        while True:
            try:
                if self._publisher.connected and await self.sweep_claim.held() and await self.sweep() == SWEEP_SIZE:
                    continue
            except StoreUnavailable as error:
                log.warning("sweep_failed", reason=str(error))
            self._sweep_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._sweep_now.wait()

    async def on_stream_recreated(self, streams: Collection[str] = (STREAM,)) -> None:
        """Have every job dispatched again that is unfinished and was published to one of these streams.

        Endings of all jobs are in one stream: with that one, all unfinished jobs are dispatched again.
        """
        count = await self._jobs.make_all_due(self._now(), tasks_only=STREAM not in streams)
        if count:
            log.warning("stream_is_new", unfinished_jobs_due=count)
        else:
            # At the very first start the stream is new as well, and nothing was lost.
            log.info("stream_is_new", unfinished_jobs_due=count)
        self.sweep_soon()

    async def finish(self) -> None:
        """Let what is under way reach the broker, make the rest due, and give the lease back; for an orderly stop."""
        await self._dispatches.drain()
        await self.lease.make_failed_due()
        # Whoever sweeps next is to know that some of it is unanswered.
        if not self._unanswered:
            await self.sweep_claim.give_back()
        await self.lease.give_back()
