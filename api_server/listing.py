"""Lists of jobs, newest first: page by page, through time windows of which each holds few enough jobs to read.

A query over all jobs would be cheap in MongoDB and expensive in SecantusDB, which reads everything that a range of an
index holds before it looks at a limit. So the range is what is bounded: a window of creation times, whose width follows
from how many jobs the one before it held. A list that finds little stops after `EXAMINED_MAX` jobs or `WINDOWS_MAX`
windows, and says how far back it has looked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from api_server.domain import JobRecord, Row
from api_server.errors import InvalidRequest
from hasty.jobs import JOB_ID, Status, place_of

PAGE_MAX: Final = 200
EXAMINED_MAX: Final = 4_000
"""So many jobs at most are looked at for one page."""

WINDOW_MAX: Final = 1_000
"""So many jobs of a window are read at once; more are never created in one millisecond, which is how fine times are."""

WINDOWS_MAX: Final = 40
SEARCHED_AT_ONCE: Final = 600
"""So many jobs are looked at in a window, where most of them may not match."""

FIRST_WIDTH: Final = timedelta(seconds=1)
WIDTH_GROWS_BY: Final = 8
"""A window in which no job was created is followed by one that is so many times as wide."""

CLOCKS_DIFFER_BY: Final = timedelta(minutes=1)
"""Jobs that another clock has created in the future are found as well."""

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No job is older."""

WIDEST: Final = timedelta(days=3650)

FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
"""Comes before every id."""

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

    def precedes(self, row: Row) -> bool:
        """Whether a job comes after this place in a list."""
        return (row.created_at, row.job_id) < (self.at, self.job_id)


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

    def match(self, row: Row, root_kind: str) -> bool:
        """Whether a job belongs to the list."""
        return (
            (self.kind is None or self.kind == (row.kind or root_kind))
            and (self.status is None or self.status is row.status)
            and (self.key is None or self.key == row.key)
            and (self.label is None or self.label in row.labels)
            and (self.batch is None or self.batch == row.batch)
            and (self.since is None or self.since <= row.created_at)
        )


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

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[Row]: ...
    async def of_place(self, place: str, before_run: int | None, limit: int) -> list[Row]: ...
    async def members(self, batch: str) -> list[Row]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Listing:
    """Reads pages. `now` gives the database's time; `root_kind` names the kind of the jobs without a task."""

    def __init__(self, jobs: Jobs, *, now: Callable[[], datetime], root_kind: str) -> None:
        self._jobs = jobs
        self._now = now
        self._root_kind = root_kind

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
            rows = await self._jobs.members(filters.batch)
            return await self._cut(self._matching(rows, filters, after), limit)
        if by_key:
            return await self._of_key(filters, after, limit)
        return await self._of_time(filters, after, limit)

    async def _of_key(self, filters: Filters, after: Cursor | None, limit: int) -> Page:
        key, kind = filters.key or "", filters.kind or ""
        place = key if kind == self._root_kind else place_of(kind, key, "")
        rows = await self._jobs.of_place(place, None if after is None else after.run, WINDOW_MAX)
        found = [row for row in rows if filters.match(row, self._root_kind)]
        page = found[:limit]
        records = await self._jobs.records([row.job_id for row in page])
        if len(found) > limit:
            following: Cursor | None = Cursor(run=page[-1].run)
        else:
            following = Cursor(run=rows[-1].run) if len(rows) >= WINDOW_MAX else None
        return Page([records[row.job_id] for row in page if row.job_id in records], following)

    async def _of_time(self, filters: Filters, after: Cursor | None, limit: int) -> Page:
        beginning = max(filters.since or BEGINNING, BEGINNING)
        found: list[Row] = []
        place = after or Cursor(self._now() + CLOCKS_DIFFER_BY, "~")
        width, examined = FIRST_WIDTH + (CLOCKS_DIFFER_BY if after is None else timedelta(0)), 0
        for _ in range(WINDOWS_MAX):
            first = max(place.at - width, beginning)
            rows = await self._jobs.created_between(first, place.at, WINDOW_MAX)
            examined += len(rows)
            cut = len(rows) >= WINDOW_MAX
            if cut:
                # Those of the last millisecond may be incomplete: they are read again with what follows.
                first = rows[-1].created_at + timedelta(milliseconds=1)
                rows = [row for row in rows if row.created_at >= first]
            found += self._matching(rows, filters, place)
            if len(found) > limit:
                return await self._cut(found, limit)
            # What was created in the first millisecond of the window is behind us.
            place = Cursor(first, FIRST_ID)
            if not cut and first <= beginning:
                return await self._cut(found, limit)
            if examined >= EXAMINED_MAX:
                break
            width = _next_width(width, len(rows), 3 * limit if filters.is_all else SEARCHED_AT_ONCE)
        records = await self._records(found)
        return Page(records, place, place.at)

    def _matching(self, rows: Sequence[Row], filters: Filters, after: Cursor | None) -> list[Row]:
        wanted = [row for row in rows if (after is None or after.precedes(row)) and filters.match(row, self._root_kind)]
        return sorted(wanted, key=lambda row: (row.created_at, row.job_id), reverse=True)

    async def _cut(self, found: Sequence[Row], limit: int) -> Page:
        page = found[:limit]
        following = Cursor(page[-1].created_at, page[-1].job_id) if len(found) > limit else None
        return Page(await self._records(page), following)

    async def _records(self, rows: Sequence[Row]) -> list[JobRecord]:
        records = await self._jobs.records([row.job_id for row in rows]) if rows else {}
        return [records[row.job_id] for row in rows if row.job_id in records]


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


def _next_width(width: timedelta, held: int, wanted: int) -> timedelta:
    """Return how wide the next window is, so that it holds about as many jobs as are wanted."""
    if held == 0:
        return min(width * WIDTH_GROWS_BY, WIDEST)
    factor = min(max(wanted / held, 1 / WIDTH_GROWS_BY), WIDTH_GROWS_BY)
    return min(max(width * factor, timedelta(milliseconds=1)), WIDEST)
