"""Lists of jobs, newest first: page by page, through time windows of which each holds few enough jobs to read.

A query over all jobs would be cheap in MongoDB and expensive in SecantusDB, which reads everything that a range of an
index holds before it looks at a limit. So the range is what is bounded: a window of creation times, whose width follows
from how close together the jobs lie in the window before it, or did where the page before ended. Where few jobs match,
the database is asked for those alone. A list that finds little stops after `LOOKED_AT_MAX` jobs or `WINDOWS_MAX`
windows, and says how far back it has looked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Filters, JobRecord
from api_server.errors import InvalidRequest
from hasty.jobs import JOB_ID, Job, place_of

PAGE_MAX: Final = 100
"""A page of 200 took four times as long as one job."""

LOOKED_AT_MAX: Final = 1_000
"""About so many jobs at most are looked at for one page, where the database picks those that match."""

READ_MAX: Final = PAGE_MAX
"""So many jobs at most of a key or a batch are read for one page, where only some of them may match."""

SPARE: Final = 16
"""So many jobs more than a page needs are read: what was created in the millisecond in which a window is cut is left
to the next one."""

RARE: Final = 0.5
"""Where a smaller part of the jobs matches, the database picks those that do."""

RARE_FROM: Final = 10
"""So many jobs must have been read before that is said of them."""

WINDOWS_MAX: Final = 40
FIRST_WIDTH: Final = timedelta(seconds=1)
WIDTH_GROWS_BY: Final = 8
"""A window in which no job was created is followed by one that is so many times as wide."""

MORE_GROWS_BY: Final = 32
"""Any other window is followed by one that is at most so many times as wide."""

MILLISECOND: Final = timedelta(milliseconds=1)
"""How fine times are."""

CLOCKS_DIFFER_BY: Final = timedelta(minutes=1)
"""Jobs that another clock has created in the future are found as well."""

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No job is older."""

WIDEST: Final = timedelta(days=3650)

FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
"""Comes before every id."""

PLACES_REMEMBERED: Final = 1_000
NEWEST: Final = "newest"
NEWEST_REMEMBERED_FOR: Final = timedelta(seconds=10)
"""Jobs may have come in much faster since: what the first window would hold too many of stays bounded."""

CURSOR: Final = rf"[0-9]{{1,14}}-{JOB_ID.pattern}|run-[0-9]{{1,15}}"
"""What a cursor looks like: a time in milliseconds, until the year 5138, and a job's id; or the number of a run."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a list goes on: after the job `job_id`, created at `at`; a list of one key's jobs after their `run`."""

    at: datetime = BEGINNING
    job_id: str = ""
    run: int | None = None

    def __str__(self) -> str:
        """Write it as callers get it; `cursor_of` reads it."""
        if self.run is not None:
            return f"run-{self.run}"
        return f"{round(self.at.timestamp() * 1000)}-{self.job_id}"

    def precedes(self, job: Job) -> bool:
        """Whether a job comes after this place in a list."""
        return (job.created_at, job.job_id) < (self.at, self.job_id)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: `next` is where it goes on, None at its end.

    `searched_back_to` is set when the page is short because of all the jobs that had to be looked at.
    """

    records: Sequence[JobRecord]
    next: Cursor | None
    searched_back_to: datetime | None = None


class Jobs(Protocol):
    """What finds jobs; see `api_server.store.listing.ListingStore`."""

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]: ...
    async def search(
        self, first: datetime, last: datetime, filters: Filters, root_kind: str, limit: int
    ) -> list[JobRecord]: ...
    async def of_place(self, place: str, before_run: int | None, limit: int) -> list[JobRecord]: ...
    async def members(self, batch: str) -> Sequence[str]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Listing:
    """Reads pages. `now` gives the database's time; `root_kind` names the kind of the jobs without a task."""

    def __init__(self, jobs: Jobs, *, now: Callable[[], datetime], root_kind: str) -> None:
        self._jobs = jobs
        self._now = now
        self._root_kind = root_kind
        self._memory = _Memory()

    async def page(self, filters: Filters, after: Cursor | None, limit: int) -> Page:
        """Return up to `limit` jobs that match, after a place in their list.

        Raises:
            InvalidRequest: when the cursor belongs to another list.
            StoreUnavailable: when the database fails.
        """
        by_key = filters.key is not None and filters.kind is not None and filters.batch is None
        if after is not None and by_key != (after.run is not None):
            raise InvalidRequest("after: this cursor belongs to a list with other filters", parameter="after")
        if filters.batch is not None:
            return await self._of_batch(filters.batch, filters, after, limit)
        if by_key:
            return await self._of_key(filters, after, limit)
        return await self._of_time(filters, after, limit)

    async def _of_batch(self, batch: str, filters: Filters, after: Cursor | None, limit: int) -> Page:
        # Ids begin with the time: so the page's members are known before anything of them is read.
        ids = sorted(await self._jobs.members(batch), reverse=True)
        ids = ids if after is None else [job_id for job_id in ids if job_id < after.job_id]
        read = ids[: limit + 1 if filters == Filters(batch=batch) else max(READ_MAX, limit + 1)]
        records = await self._jobs.records(read) if read else {}
        looked_at = [records[job_id] for job_id in read if job_id in records]
        found = [record for record in looked_at if filters.match(record.job, self._root_kind)]
        if len(found) > limit:
            return _cut(found, limit)
        if len(read) == len(ids):
            return Page(found, None)
        at = looked_at[-1].job.created_at if looked_at else BEGINNING
        return Page(found, Cursor(at, read[-1]), at)

    async def _of_key(self, filters: Filters, after: Cursor | None, limit: int) -> Page:
        key, kind = filters.key or "", filters.kind or ""
        place = key if kind == self._root_kind else place_of(kind, key, "")
        most = limit + 1 if filters == Filters(key=key, kind=kind) else max(READ_MAX, limit + 1)
        records = await self._jobs.of_place(place, None if after is None else after.run, most)
        found = [record for record in records if filters.match(record.job, self._root_kind)]
        if len(found) > limit:
            return Page(found[:limit], Cursor(run=found[limit - 1].job.run))
        if len(records) < most:
            return Page(found, None)
        last = records[-1].job
        return Page(found, Cursor(run=last.run), last.created_at)

    async def _of_time(self, filters: Filters, after: Cursor | None, limit: int) -> Page:
        now = self._now()
        search = _Search(self._memory.before(after, filters, now), limit, is_all=filters.is_all)
        page = await self._searched(search, filters, after or Cursor(now + CLOCKS_DIFFER_BY, "~"), limit, now)
        if search.seen is not None:
            if after is None:
                self._memory.keep(NEWEST, search.seen, now)
                self._memory.keep(filters, search.seen, now)
            if page.next is not None:
                self._memory.keep(str(page.next), search.seen, now)
        return page

    async def _searched(self, search: _Search, filters: Filters, place: Cursor, limit: int, now: datetime) -> Page:
        beginning = max(filters.since or BEGINNING, BEGINNING)
        found: list[JobRecord] = []
        read_max = limit + SPARE
        for _ in range(WINDOWS_MAX):
            last, until = min(place.at, now), place.at
            if place.job_id == FIRST_ID:
                until -= MILLISECOND
            first = _whole_milliseconds(max(last - search.width(last, len(found)), beginning))
            if search.is_rare:
                read = await self._jobs.search(first, until, filters, self._root_kind, read_max)
            else:
                read = await self._jobs.created_between(first, until, read_max)
            cut = len(read) >= read_max
            if cut:
                # Those of the last millisecond may be incomplete: they are read again with what follows.
                first = read[-1].job.created_at + MILLISECOND
                if first > read[0].job.created_at:
                    read_max *= WIDTH_GROWS_BY
                    continue
            new = [record for record in read if first <= record.job.created_at and place.precedes(record.job)]
            matching = [record for record in new if filters.match(record.job, self._root_kind)]
            search.note(first, last, new, len(matching))
            found += sorted(matching, key=_place, reverse=True)
            if len(found) > limit:
                return _cut(found, limit)
            # What was created in the first millisecond of the window is behind us.
            place = Cursor(first, FIRST_ID)
            if not cut and first <= beginning:
                return Page(found, None)
            if search.is_over:
                break
        return Page(found, place, place.at)


def cursor_of(text: str) -> Cursor:
    """Read a cursor.

    Raises:
        InvalidRequest: when it is none.
    """
    if re.fullmatch(CURSOR, text) is None:
        text = "after: this is not a cursor: take it from `next` of the page before"
        raise InvalidRequest(text, parameter="after")
    first, _, rest = text.partition("-")
    if first == "run":
        return Cursor(run=int(rest))
    return Cursor(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(first)), rest)


def _whole_milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _place(record: JobRecord) -> tuple[datetime, str]:
    return record.job.created_at, record.job.job_id


def _cut(found: Sequence[JobRecord], limit: int) -> Page:
    last = found[limit - 1].job
    return Page(found[:limit], Cursor(last.created_at, last.job_id))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A span of time, how many jobs were created in it, as far as that is known, and how many of them matched.

    `newest` is when the newest of them was created: the time before the first job of a list says nothing of how close
    together jobs lie.
    """

    span: timedelta
    jobs: float
    matched: float
    newest: datetime


class _Search:
    """How far a page has been searched for; `before` is what was seen where the page before it ended."""

    def __init__(self, before: _Seen | None, limit: int, *, is_all: bool) -> None:
        self._limit = limit
        self._is_all = is_all
        self._gap = None if before is None else before.span / before.jobs
        self._part = None if before is None else before.matched / before.jobs
        self._widest = FIRST_WIDTH if before is None else before.span * WIDTH_GROWS_BY
        self._newest = None if before is None else before.newest
        self._span = timedelta(0)
        self._looked_at = self._matched = 0.0

    @property
    def is_rare(self) -> bool:
        """Whether few jobs match, as far as it was seen."""
        if self._is_all or self._gap is None:
            return False
        if self._looked_at >= RARE_FROM:
            return self._matched < RARE * self._looked_at
        return self._part is not None and self._part < RARE

    @property
    def is_over(self) -> bool:
        """Whether enough jobs were looked at."""
        return self._looked_at >= 0.9 * LOOKED_AT_MAX

    @property
    def seen(self) -> _Seen | None:
        """What the page has seen; None where that was nothing."""
        if self._newest is None or not self._looked_at:
            return None
        return _Seen(self._span, self._looked_at, self._matched, self._newest)

    def width(self, last: datetime, found: int) -> timedelta:
        """Return how wide the window before a time is: so that it holds the rest of the page, and some more."""
        if self._gap is None:
            return self._widest
        if not self._looked_at and self._newest is not None:
            # Between the newest job and now there may have been none for long.
            return max(last - self._newest, timedelta(0)) + self._width(found, self._gap)
        return self._width(found, self._gap)

    def _width(self, found: int, gap: timedelta) -> timedelta:
        wanted = 1.5 * (self._limit + 1 - found)
        if self._looked_at:
            wanted *= self._looked_at / max(self._matched, 1)
        elif self.is_rare and self._part is not None:
            wanted /= max(self._part, 1 / LOOKED_AT_MAX)
        if not self._is_all:
            wanted = min(wanted, LOOKED_AT_MAX - self._looked_at)
        return max(min(gap * wanted, self._widest), MILLISECOND)

    def note(self, first: datetime, last: datetime, read: Sequence[JobRecord], matched: int) -> None:
        """Note what the window between two times held: the jobs that were read of it, and how many matched."""
        if not self._looked_at:
            # The time without a job that it began with is no part of it.
            newest = read[0].job.created_at if read else None
            self._newest = max(filter(None, (self._newest, newest)), default=None)
            last = min(last, self._newest or last)
        self._note(max(last - first, MILLISECOND), len(read), matched)

    def _note(self, span: timedelta, read: int, matched: int) -> None:
        if self.is_rare and self._gap is not None:
            # What does not match was looked at by the database alone.
            read = max(read, round(span / self._gap))
        else:
            self._gap = span / read if read else None
        self._widest = min(span * (MORE_GROWS_BY if read else WIDTH_GROWS_BY), WIDEST)
        if self._newest is not None:
            self._span += span
        self._looked_at += read
        self._matched += matched


class _Memory:
    """What was seen where pages ended, so that the page after one needs no narrow windows first."""

    def __init__(self) -> None:
        self._seen: dict[str | Filters, tuple[_Seen, datetime]] = {}

    def before(self, place: Cursor | None, filters: Filters, now: datetime) -> _Seen | None:
        """Return what was seen before a place, or of the newest jobs of late; None where nothing is known."""
        if place is None:
            seen, at = self._seen.get(filters, (None, now))
            if seen is not None and now - at < NEWEST_REMEMBERED_FOR:
                return seen
        seen, at = self._seen.get(str(place or NEWEST), (None, now))
        if seen is None or (place is None and now - at >= NEWEST_REMEMBERED_FOR):
            return None
        # How many of them match is seen anew: where the database looks at the others, their number is an estimate.
        return replace(seen, matched=seen.jobs)

    def keep(self, place: str | Filters, seen: _Seen, now: datetime) -> None:
        """Keep what was seen before a place, or at the beginning of a list."""
        self._seen.pop(place, None)
        self._seen[place] = (seen, now)
        if len(self._seen) > PLACES_REMEMBERED:
            del self._seen[next(iter(self._seen))]
