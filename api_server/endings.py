"""Endings: what job-servers have recorded is applied to the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol

from api_server.metrics import APPLIED
from hasty.jobs import Ending, Status
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import MalformedMessage, decode_ending
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.crash_points import CrashPoint, crash_point
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

PAUSE_AFTER_FAILURE_S: Final = 0.5
NO_SUCH_JOB: Final = "no such job"


class Jobs(Protocol):
    """What changes jobs; see `api_server.store.jobs.JobStore`."""

    async def apply(self, status: Status, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]: ...
    async def apply_reports(self, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]: ...


class Acks(Protocol):
    """What answers the broker; see `hasty.server.messaging.acks.Acks`."""

    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...
    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...


class Endings:
    """Applies endings to jobs; `confirm` is called with the jobs that need no dispatch any more."""

    def __init__(
        self,
        jobs: Jobs,
        acks: Acks,
        dead_letters: DeadLetters,
        *,
        now: Callable[[], datetime],
        confirm: Callable[[Iterable[str]], None],
    ) -> None:
        self._jobs = jobs
        self._acks = acks
        self._dead_letters = dead_letters
        self._now = now
        self._confirm = confirm
        self.on_applied: Callable[[Sequence[str]], None] = lambda _: None
        """Called with the jobs to which endings were applied."""

    async def apply_endings(self, status: Status, deliveries: Sequence[Delivery]) -> None:
        """Move jobs to a status by endings that came on its subject, then acknowledge; `PROCESSING` begins a new turn.

        What is malformed, or is about a job that does not exist, becomes a dead letter.
        """
        valid: list[tuple[Delivery, Ending]] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                valid.append((delivery, decode_ending(delivery.subject, delivery.data)))
            except MalformedMessage as error:
                malformed.append((delivery, str(error)))
        try:
            unknown = await self._apply(status, [ending for _, ending in valid]) if valid else set()
            await self._dead_letters.put(malformed, "malformed")
            strays = [(delivery, NO_SUCH_JOB) for delivery, ending in valid if ending.job_id in unknown]
            await self._dead_letters.put(strays, "unknown_job")
        except StoreUnavailable as error:
            log.warning("endings_not_applied", count=len(deliveries), reason=str(error))
            await self._acks.nak(deliveries, delay_s=1)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        await self._acks.ack([delivery for delivery, ending in valid if ending.job_id not in unknown])

    async def _apply(self, status: Status, endings: Sequence[Ending]) -> set[str]:
        """Apply endings; the ids of jobs that do not exist."""
        crash_point(CrashPoint.API_BEFORE_ENDING_WRITE)
        now = self._now()
        plain = [ending for ending in endings if ending.report is None]
        reported = [ending for ending in endings if ending.report is not None]
        moved, unknown = await self._jobs.apply(status, plain, now) if plain else (0, set())
        if reported:
            moved_too, unknown_too = await self._jobs.apply_reports(reported, now)
            moved, unknown = moved + moved_too, unknown | unknown_too
        crash_point(CrashPoint.API_AFTER_ENDING_WRITE)
        APPLIED.labels("again" if status is Status.PROCESSING else status.value).inc(moved)
        job_ids = [ending.job_id for ending in endings]
        self._confirm(job_ids)
        self.on_applied(job_ids)
        return unknown
