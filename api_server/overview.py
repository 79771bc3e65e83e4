"""The overview: how many jobs came and went in the last minute, how long they took, and what waits now."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Lived
from hasty.jobs import Status
from hasty.server.mongo import StoreUnavailable

SPAN: Final = timedelta(seconds=60)
SECOND: Final = timedelta(seconds=1)
SAMPLE_MAX: Final = 5_000
"""So many of the jobs that were created in the last minute are looked at, the newest."""

WAITING_MAX: Final = 10_000
"""Unfinished jobs are counted up to here."""

KEPT_S: Final = 1.0
LIVED_PER_S: Final = 1_000
COUNTED_PER_S: Final = 2_500
"""What was read stands for a second, and for longer where it was much: so many jobs are looked at a second on average,
and so many counted. Looking at 5,000 each second took 6 % of the machine from the jobs themselves."""

NAMED: Final = 3
"""So many workers or kinds are named in a verdict."""

WIDER: Final = 1.5
"""Where the newest jobs are all of a short time, the next look goes back by so much more, and not over the whole
minute: a database may have to sort all that it finds there."""

RECENT_S: Final = 10.0
ENDED_WITHIN: Final = timedelta(seconds=2)
"""What ends per second is told from counts of unfinished jobs at least so far apart."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Seconds: half, 95 % and 99 % of the jobs took at most so long."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The jobs created in the `span_s` seconds before they were looked at, by what has become of them.

    That was at `at`, or up to `SAMPLE_MAX / LIVED_PER_S` seconds before where there were many. `accepted` is the sum of
    all statuses. With `sampled`, there were more, and these are the newest. `unfinished` counts all jobs that have not
    ended, however old, up to `WAITING_MAX`. `seconds` has a pair for each second of the span, the oldest first: how
    many jobs were accepted in it, and how many of the span's jobs ended in it. `ended_per_s` is about all jobs, however
    old, on average over the part of the span since the first count; None while that is not known. `unserved` counts the
    unfinished jobs of kinds that no worker serves, by kind, as far as they are among `WAITING_MAX` unfinished jobs.
    """

    at: datetime
    span_s: float
    accepted: int
    statuses: dict[Status, int]
    sampled: bool
    to_start: Quantiles | None
    to_end: Quantiles | None
    unfinished: int
    seconds: list[tuple[int, int]]
    ended_per_s: float | None = None
    unserved: dict[str, int] = field(default_factory=dict)


class Jobs(Protocol):
    """What finds jobs; see `api_server.store.overview.OverviewStore`."""

    async def lived(self, first: datetime, last: datetime, limit: int) -> list[Lived]: ...
    async def unfinished(self, limit: int) -> int: ...
    async def unfinished_of(self, kinds: Collection[str], root_kind: str, limit: int) -> Counter[str]: ...


class Overviews:
    """Makes overviews, one a second at most, however many ask.

    `now` gives the database's time, `unserved` the kinds that no worker serves. `root_kind` names the kind of the jobs
    without a task.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        now: Callable[[], datetime],
        root_kind: str,
        unserved: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._jobs = jobs
        self._now = now
        self._root_kind = root_kind
        self._unserved = unserved
        self._waiting = Counter[str]()
        self._waiting_of: frozenset[str] = frozenset()
        self._wait_until = float("-inf")
        self._latest: Overview | None = None
        self._until = float("-inf")
        self._look_again_at = float("-inf")
        self._look_back = SPAN
        self._making: asyncio.Task[Overview] | None = None
        self._unfinished: int | None = None
        # How many jobs were unfinished when, in the last minute.
        self._counts: deque[tuple[datetime, int]] = deque()
        self._counted_at = float("-inf")
        self._count_again_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    def unfinished(self) -> int | None:
        """Return how many jobs have not ended, as of some seconds ago; None until it is known.

        Whoever asks has them counted again, once a second at most.
        """
        now = _loop_time()
        if now >= self._count_again_at and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._count_quietly(), name="count unfinished jobs")
        return self._unfinished if now < self._counted_at + RECENT_S else None

    async def latest(self) -> Overview:
        """Return the overview of a second ago at the most.

        Raises:
            StoreUnavailable: when the database fails.
        """
        if self._latest is not None and _loop_time() < self._until:
            return self._latest
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make(), name="overview")
        # Whoever hangs up must not end it for the others.
        return await asyncio.shield(self._making)

    async def _make(self) -> Overview:
        now = self._now()
        if self._latest is None or _loop_time() >= self._look_again_at:
            self._latest = await self._look(now)
        if self._unfinished is None or _loop_time() >= self._count_again_at:
            self._unfinished = await self._count()
        waiting = await self._count_unserved(self._unfinished)
        self._latest = replace(self._latest, at=now, unfinished=self._unfinished, unserved=waiting)
        self._until = _loop_time() + KEPT_S
        return self._latest

    async def _look(self, now: datetime) -> Overview:
        jobs = await self._jobs.lived(now - self._look_back, now, SAMPLE_MAX)
        if len(jobs) < SAMPLE_MAX and self._look_back < SPAN:
            jobs = await self._jobs.lived(now - SPAN, now, SAMPLE_MAX)
        span = SPAN if len(jobs) < SAMPLE_MAX else max(now - jobs[-1].created_at, timedelta(milliseconds=1))
        self._look_back = min(span * WIDER, SPAN)
        self._look_again_at = _loop_time() + max(KEPT_S, len(jobs) / LIVED_PER_S)
        counted = Counter(job.status for job in jobs)
        return Overview(
            at=now,
            span_s=span.total_seconds(),
            accepted=len(jobs),
            statuses={status: counted[status] for status in Status},
            sampled=len(jobs) >= SAMPLE_MAX,
            to_start=quantiles([max(job.started_at - job.created_at.timestamp(), 0) for job in jobs if job.started_at]),
            to_end=quantiles([(job.ended_at - job.created_at).total_seconds() for job in jobs if job.ended_at]),
            unfinished=0,
            seconds=by_second(jobs, now, span),
            ended_per_s=ended_per_s(jobs, self._counts, now - span, now),
        )

    async def _count_unserved(self, unfinished: int) -> dict[str, int]:
        """Count what waits for a worker that serves it, while there may be anything."""
        kinds = self._unserved()
        if not kinds or not unfinished:
            return {}
        if kinds != self._waiting_of or _loop_time() >= self._wait_until:
            self._waiting = await self._jobs.unfinished_of(kinds, self._root_kind, WAITING_MAX)
            self._waiting_of = kinds
            self._wait_until = _loop_time() + max(KEPT_S, unfinished / LIVED_PER_S)
        return dict(self._waiting.most_common())

    async def _count_quietly(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._count()

    async def _count(self) -> int:
        self._count_again_at = _loop_time() + KEPT_S
        asked_at = self._now()
        unfinished = await self._jobs.unfinished(WAITING_MAX)
        self._unfinished, self._counted_at = unfinished, _loop_time()
        self._note(asked_at + (self._now() - asked_at) / 2, unfinished)
        self._count_again_at = self._counted_at + max(KEPT_S, unfinished / COUNTED_PER_S)
        return unfinished

    def _note(self, at: datetime, unfinished: int) -> None:
        """Keep a count for a minute; where there were more than are counted, nothing before it is of use."""
        if unfinished >= WAITING_MAX:
            self._counts.clear()
            return
        while self._counts and self._counts[0][0] < at - SPAN:
            self._counts.popleft()
        self._counts.append((at, unfinished))


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def by_second(jobs: Sequence[Lived], now: datetime, span: timedelta) -> list[tuple[int, int]]:
    """Count how many jobs were accepted, and how many of them ended, in each whole second of the span before `now`."""
    accepted = Counter((now - job.created_at) // SECOND for job in jobs)
    ended = Counter((now - job.ended_at) // SECOND for job in jobs if job.ended_at is not None)
    return [(accepted[ago], ended[ago]) for ago in reversed(range(max(span // SECOND, 1)))]


def ended_per_s(
    jobs: Sequence[Lived], counts: Iterable[tuple[datetime, int]], first: datetime, last: datetime
) -> float | None:
    """Tell how many jobs ended per second: those that were accepted between two counts, less what these grew by.

    `jobs` are all that were created from `first` to `last`, `counts` say how many were unfinished when. None where
    too little was counted.
    """
    within = [(at, unfinished) for at, unfinished in counts if first <= at <= last]
    if not within or within[-1][0] - within[0][0] < ENDED_WITHIN:
        return None
    (start, before), (end, after) = within[0], within[-1]
    accepted = sum(start < job.created_at <= end for job in jobs)
    # A job may be counted a moment before or after it was created.
    return round(max(accepted + before - after, 0) / (end - start).total_seconds(), 3)


def quantiles(seconds: Sequence[float]) -> Quantiles | None:
    """Return the quantiles of some durations; None where there are none."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Quantiles(*(round(ordered[max(math.ceil(part * len(ordered)) - 1, 0)], 3) for part in (0.5, 0.95, 0.99)))


def verdict(overview: Overview, workers: int, silent: Sequence[str]) -> str:
    """Say in one sentence how things are; `silent` names workers that were heard of lately, but not now."""
    waiting, is_more = overview.unfinished, overview.unfinished >= WAITING_MAX
    if not workers:
        return (
            f"No worker is heard: {_wait(waiting, is_more=is_more)}"
            if waiting
            else "No worker is heard, and no job waits"
        )
    if overview.unserved:
        kinds = _named(list(overview.unserved))
        return f"No worker serves {kinds}: {_wait(sum(overview.unserved.values()), is_more=is_more)}"
    if silent:
        one = len(silent) == 1
        return f"{_named(silent)} {'is' if one else 'are'} silent: what {'it' if one else 'they'} held begins elsewhere"
    failed = overview.statuses[Status.FAILED]
    if failed and failed * 2 >= overview.accepted:
        return f"{failed:,} of {overview.accepted:,} jobs of the last {overview.span_s:.0f} s failed"
    rate = f"{overview.accepted / overview.span_s:,.1f} jobs/s"
    return f"All is well: {rate}, " + (f"{_jobs(waiting, is_more=is_more)} under way" if waiting else "nothing waits")


def _named(names: Sequence[str]) -> str:
    """Name some of them."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _jobs(many: int, *, is_more: bool) -> str:
    """Say how many jobs; with `is_more`, there may be more."""
    return f"{'at least ' if is_more else ''}{many:,} job{'' if many == 1 else 's'}"


def _wait(many: int, *, is_more: bool) -> str:
    """Say how many jobs wait."""
    return f"{_jobs(many, is_more=is_more)} wait{'s' if many == 1 else ''}"
