"""What a job is and what may happen to it. Pure decisions: no clock, no chance, no input or output.

``processing -> finished`` and ``processing -> cancelled``, and nothing else, for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Status(StrEnum):
    """Where a job is in its life."""

    PROCESSING = "processing"
    FINISHED = "finished"
    CANCELLED = "cancelled"


NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PROCESSING: frozenset({Status.FINISHED, Status.CANCELLED}),
    Status.FINISHED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""The whole life of a job: from each status, the statuses it may go to."""

TERMINAL: Final = frozenset(status for status, following in NEXT.items() if not following)

OVERDUE_GROWS_UP_TO: Final = 8
"""A job that is dispatched again and again waits up to this many times the first wait."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an object: `number` counts the object's jobs from 1."""

    object_id: str
    number: int
    job_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the api-server keeps it; `sleep_time_used` is in seconds, 0 while processing.

    `dispatches` counts how often it was handed to the broker; the first time is counted ahead, see `Lease`.
    """

    run: Run
    status: Status = Status.PROCESSING
    sleep_time_used: float = 0
    dispatches: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """An api-server's claim to the first dispatch of the jobs that it stored.

    Its jobs are stored as dispatched already, so that none needs a mark when it was. Of them, those that would be
    overdue before `watermark` are in truth with the broker, or were made due; of the others, only their `owner` knows.
    When it has not renewed its lease for long, they are made due.
    """

    owner: str
    renewed_at: datetime
    watermark: datetime


@dataclass(frozen=True, slots=True)
class Admit:
    """The object may have a new job, with this run number."""

    number: int


@dataclass(frozen=True, slots=True)
class TooSoon:
    """The object's latest job is younger than the cooldown; `retry_after_s` seconds are left of it."""

    job_id: str
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: `status` is terminal, `sleep_time_used` in seconds."""

    job_id: str
    status: Status
    sleep_time_used: float


def admit(latest: Run | None, now: datetime, cooldown: timedelta) -> Admit | TooSoon:
    """Decide whether an object whose latest run is `latest` may have a new job.

    A latest run that lies in the future counts as created now: clocks that differ must not open the door.
    """
    if latest is None:
        return Admit(1)
    left = cooldown - max(now - latest.created_at, timedelta(0))
    if left <= timedelta(0):
        return Admit(latest.number + 1)
    return TooSoon(latest.job_id, left.total_seconds())


def moves(current: Status, to: Status) -> bool:
    """Whether a job may go from one status to another."""
    return to in NEXT[current]


def overdue_after(dispatches: int, overdue: timedelta) -> timedelta:
    """How long after its latest dispatch a job without news is dispatched again.

    The wait doubles with each dispatch, up to a bound: jobs that merely queue behind others must not multiply in the
    stream, and a job that was lost must come back within a bounded time.
    """
    doublings = max(dispatches - 1, 0)
    return overdue * min(1 << min(doublings, OVERDUE_GROWS_UP_TO), OVERDUE_GROWS_UP_TO)
