"""An api-server's lease: its claim to the first dispatch of the jobs that it stored, see `domain.Lease`."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Lease, overdue_after
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

LEASE: Final = timedelta(seconds=5)
"""How long an api-server has the first dispatch of its new jobs to itself, from each renewal of its lease on.

Taking them over too early does no harm: both publish under the same message id, and the broker keeps one.
"""

RENEW_EVERY: Final = timedelta(seconds=2)
KEEP_EVERY_S: Final = 1.0

CLOCK_SLACK: Final = timedelta(seconds=1)
"""The database's time, as a process estimates it, may go back by a little when it is read again."""

ATTEMPTS_AFTER_FAILED_INSERT: Final = 5
"""An insert that got no answer may still come: so often, once a second, it is tried to make its jobs due."""

MADE_DUE_AT_ONCE: Final = 500


class Leases(Protocol):
    """What is stored of leases; see `api_server.store.leases.LeaseStore`."""

    async def renew(self, lease: Lease) -> None: ...
    async def abandoned(self, since: datetime) -> list[Lease]: ...
    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int: ...
    async def delete(self, lease: Lease) -> None: ...


class Jobs(Protocol):
    """What a lease needs of the jobs; see `api_server.store.jobs.JobStore`."""

    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int: ...


class LeaseKeeper:
    """Keeps this api-server's lease, and knows which of its new jobs the broker is not yet known to hold.

    `on_due` is called whenever jobs were made due. `name` begins the owner's name in leases and jobs.
    """

    def __init__(
        self,
        leases: Leases,
        jobs: Jobs,
        *,
        now: Callable[[], datetime],
        overdue: timedelta,
        name: str,
        on_due: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._jobs = jobs
        self._now = now
        self._first_overdue = overdue_after(1, overdue)
        self._on_due = on_due
        # Not the name alone: a container that is started again has the same one, and must not renew what it left.
        self.owner = f"{name}-{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        # By this process's own clock, which no database is needed to read.
        self._renewed_s = -math.inf
        # New jobs of which it is not certain yet that the broker holds them, and when they would be overdue.
        self._unconfirmed: dict[str, datetime] = {}
        # Those among them that did not get there, and how often they are still to be made due.
        self._failed: dict[str, int] = {}

    def in_flight(self, job_id: str) -> bool:
        """Whether a job's first publish is under way, and not known to have failed."""
        return job_id in self._unconfirmed and job_id not in self._failed

    # -- the jobs under it ----------------------------------------------------------------------------------------

    def expect(self, job_ids: Iterable[str], due: datetime) -> None:
        """Note that these jobs are being stored and published."""
        self._unconfirmed |= dict.fromkeys(job_ids, due)

    def confirm(self, job_ids: Iterable[str]) -> None:
        """Note that the broker holds these jobs, or that they need no dispatch any more."""
        for job_id in job_ids:
            self._unconfirmed.pop(job_id, None)
            self._failed.pop(job_id, None)

    def note_insert_unknown(self, job_ids: Iterable[str]) -> None:
        """Note that it is unknown whether these jobs were stored."""
        self._failed |= dict.fromkeys(job_ids, ATTEMPTS_AFTER_FAILED_INSERT)

    def note_not_published(self, job_ids: Iterable[str]) -> None:
        """Have these jobs made due, of those that are not confirmed all the same: they have ended meanwhile."""
        self._failed |= {job_id: 1 for job_id in job_ids if job_id in self._unconfirmed}

    async def make_failed_due(self) -> None:
        """Have what did not reach the broker published by a sweep of any api-server."""
        failed = list(self._failed)
        for start in range(0, len(failed), MADE_DUE_AT_ONCE):
            chunk = failed[start : start + MADE_DUE_AT_ONCE]
            await self._jobs.make_due(chunk, self._now())
            self._on_due()
            for job_id in chunk:
                left = self._failed.pop(job_id, 0) - 1
                if left > 0:
                    self._failed[job_id] = left
                else:
                    self._unconfirmed.pop(job_id, None)

    # -- the lease itself -----------------------------------------------------------------------------------------

    async def ensure(self) -> None:
        """Renew the lease if it may have run out, before new jobs are stored under it."""
        if not self._renewed_within(LEASE):
            await self.renew()

    async def keep(self) -> None:
        """Renew the lease, make due what did not reach the broker, and take over abandoned leases."""
        renewed = self._renewed_within(RENEW_EVERY)
        if not renewed:
            await self.renew()
        await self.make_failed_due()
        if not renewed:
            await self._take_over()

    @property
    def may_have_run_out(self) -> bool:
        """Whether others may have taken this lease over, as after this process stood still."""
        return asyncio.get_running_loop().time() - self._renewed_s >= LEASE.total_seconds()

    async def renew(self) -> None:
        """Store the lease again, as of now."""
        now, begun_s = self._now(), asyncio.get_running_loop().time()
        # The next one's time counts as well: the clock may have been set back since the others' were computed.
        in_doubt_from = min([*self._unconfirmed.values(), now + self._first_overdue])
        lease = Lease(self.owner, now, in_doubt_from - CLOCK_SLACK)
        await self._leases.renew(lease)
        self._lease, self._renewed_s = lease, begun_s

    async def give_back(self) -> None:
        """End the lease, unless some of its jobs are unconfirmed."""
        lease, self._lease = self._lease, None
        if lease is not None and not self._unconfirmed:
            await self._leases.delete(lease)

    async def run(self) -> None:
        """Keep the lease for ever."""
        while True:
            try:
                await self.keep()
            except StoreUnavailable as error:
                log.warning("lease_not_kept", reason=str(error), unconfirmed=len(self._unconfirmed))
            await asyncio.sleep(KEEP_EVERY_S)

    async def _take_over(self) -> None:
        for lease in await self._leases.abandoned(self._now() - LEASE):
            now = self._now()
            taken = await self._leases.take_over(lease, now, now + self._first_overdue)
            await self._leases.delete(lease)
            log.info("lease_taken_over", owner=lease.owner, jobs=taken)
            self._on_due()

    def _renewed_within(self, span: timedelta) -> bool:
        # The database's clock may be set back.
        now = self._now()
        return self._lease is not None and self._lease.renewed_at <= now < self._lease.renewed_at + span
