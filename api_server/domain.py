"""Decisions about jobs. Pure: no clock, no chance, no input or output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from hasty.jobs import Job, Kind, Report, Status
from hasty.values import quick_dataclass

OVERDUE_GROWS_UP_TO: Final = 8
"""A job that is dispatched again and again waits up to this many times the first wait."""

ASK_AGAIN: Final = timedelta(seconds=1)
"""How soon a caller may ask again for the place of a job that is processing: nobody knows when it ends."""


@quick_dataclass(frozen=True, slots=True)
class Run:
    """One run of an object: `number` counts the object's jobs from 1, `processing` says whether it has not ended."""

    object_id: str
    number: int
    job_id: str
    created_at: datetime
    processing: bool = False


@quick_dataclass(frozen=True, slots=True)
class PastTurn:
    """A turn that ended and was followed by another; `attempt` is the one it belonged to."""

    number: int
    attempt: int
    status: Status
    report: Report


@quick_dataclass(frozen=True, slots=True)
class JobRecord:
    """Everything that is known of a job.

    `dispatch_due` is None once it has ended, `report` is that of its outcome, `history` holds the turns before, the
    latest 25 of them. `owner` is the api-server that took it.
    """

    job: Job
    dispatch_due: datetime | None
    ended_at: datetime | None
    report: Report | None
    history: tuple[PastTurn, ...]
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs a list holds; what is None does not matter."""

    kind: str | None = None
    status: Status | None = None
    key: str | None = None
    label: str | None = None
    batch: str | None = None
    since: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether every job belongs to the list."""
        return self == Filters(since=self.since)

    def match(self, job: Job, root_kind: str) -> bool:
        """Whether a job belongs to the list; those without a task are of the root kind."""
        task = job.task
        return (
            (self.kind is None or self.kind == (root_kind if task is None else task.kind))
            and (self.status is None or self.status is job.status)
            and (self.key is None or self.key == job.key)
            and (self.label is None or (task is not None and self.label in task.labels))
            and (self.batch is None or self.batch == job.batch)
            and (self.since is None or self.since <= job.created_at)
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The jobs that were made by one request; those of its members that were refused are not among them."""

    batch_id: str
    job_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Lived:
    """What the overview needs of a job; `started_at` is in Unix seconds by its worker's clock."""

    created_at: datetime
    status: Status
    started_at: float | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Note:
    """Which endings are to be deleted, once their jobs are: by job, the number of its turns."""

    note_id: str
    turns: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OldJob:
    """What decides whether a job is forgotten: `place` is its key's, see `hasty.jobs.place_of`.

    `kind` is None for the root kind. `turns` counts its turns, `marked_at` says since when it is to be forgotten.
    """

    job_id: str
    place: str
    run: int
    created_at: datetime
    status: Status
    ended_at: datetime | None
    kind: str | None
    turns: int
    marked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KindVersion:
    """A version of a kind: announced first at `first_at`; at `seen_at`, the latest time known, a worker served it."""

    kind: Kind
    first_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What is kept of a request with an idempotency key: the job that it made, or is to make."""

    key: str
    body_hash: str
    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """An api-server's claim to the first dispatch of the jobs that it stored.

    Its jobs are stored as if they had been dispatched, so that none needs a second write when it was. Those that would
    be overdue before `watermark` are held by the broker, or were made due; of the others, only their `owner` knows
    whether they are. When it no longer renews its lease, they are made due.
    """

    owner: str
    renewed_at: datetime
    watermark: datetime


class Claimed(IntEnum):
    """What became of an api-server's claim to the sweeps; false if it has none."""

    NO = 0
    FIRST = 1
    """Nobody had it, or whoever had it has given it back."""
    AFTER_ANOTHER = 2
    """Whoever had it, perhaps the same one, has not given it back."""


@quick_dataclass(frozen=True, slots=True)
class Admit:
    """The object may have a new job, with this run number."""

    number: int


@quick_dataclass(frozen=True, slots=True)
class TooSoon:
    """The object's latest job is younger than the cooldown; `retry_after_s` seconds are left of it.

    Or it is `processing`, where that counts; then `retry_after_s` is a lower bound.
    """

    job_id: str
    retry_after_s: float
    processing: bool = False


def admit(latest: Run | None, now: datetime, cooldown: timedelta, *, exclusive: bool = False) -> Admit | TooSoon:
    """Decide whether an object whose latest run is `latest` may have a new job.

    With `exclusive`, it may not while its latest job is processing. A latest run that lies in the future counts as
    created now: clocks that differ must not shorten the cooldown.
    """
    if latest is None:
        return Admit(1)
    left = cooldown - max(now - latest.created_at, timedelta(0))
    if exclusive and latest.processing:
        return TooSoon(latest.job_id, max(left, ASK_AGAIN).total_seconds(), processing=True)
    if left <= timedelta(0):
        return Admit(latest.number + 1)
    return TooSoon(latest.job_id, left.total_seconds())


def overdue_after(dispatches: int, overdue: timedelta) -> timedelta:
    """How long after its latest dispatch a job without an ending is dispatched again.

    The wait doubles with each dispatch, up to a bound: jobs that merely queue behind others must not multiply in the
    stream, and a job that was lost must come back within a bounded time.
    """
    doublings = max(dispatches - 1, 0)
    return overdue * min(1 << min(doublings, OVERDUE_GROWS_UP_TO), OVERDUE_GROWS_UP_TO)
