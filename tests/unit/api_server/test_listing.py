"""Lists of jobs: every job once, in order, however they lie in time."""

import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server import listing as module
from api_server.domain import Batch, Filters, JobRecord
from api_server.errors import InvalidRequest
from api_server.listing import Cursor, Listing, Page, cursor_of
from hasty.jobs import Job, Status, Task, place_of
from tests.fakes import FakeJobStore, FakeListingStore

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Lists:
    """A listing over a fake store."""

    def __init__(self) -> None:
        self.jobs = FakeJobStore()
        self.stored = FakeListingStore(self.jobs)
        self.now = NOW
        self.listing = Listing(self.stored, now=lambda: self.now, root_kind="sleep")

    def windows(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Note from now on how many jobs each window holds that is read."""
        held: list[int] = []
        for name in ("created_between", "search"):
            ask: Callable[..., Awaitable[list[JobRecord]]] = getattr(self.stored, name)

            async def noting(
                first: datetime,
                last: datetime,
                *rest: object,
                ask: Callable[..., Awaitable[list[JobRecord]]] = ask,
            ) -> list[JobRecord]:
                held.append(sum(first <= job.created_at <= last for job in self.jobs.jobs.values()))
                return await ask(first, last, *rest)

            monkeypatch.setattr(self.stored, name, noting)
        return held

    def add(self, ago: timedelta, number: int, **changes: object) -> Job:
        """Store a job that was created some time ago."""
        job_id = f"00000000-0000-7000-8000-{number:012x}"
        task = Task("greet", "{}", labels=("odd",) if number % 2 else ())
        job = Job(job_id, place_of("greet", None, job_id), 1, NOW - ago, dispatches=1, task=task)
        self.jobs.jobs[job_id] = job = replace(job, **changes)  # type: ignore[arg-type]  # fields of a job
        return job

    async def pages(self, filters: Filters, limit: int) -> list[Page]:
        """Read a list to its end."""
        pages: list[Page] = []
        after: Cursor | None = None
        for _ in range(1_000):
            pages.append(await self.listing.page(filters, after, limit))
            if pages[-1].next is None:
                return pages
            after = cursor_of(str(pages[-1].next))
        raise AssertionError("the list has no end")


def ids(pages: Sequence[Page]) -> list[str]:
    """The jobs of pages."""
    return [record.job.job_id for record in itertools.chain(*(page.records for page in pages))]


def sorted_ids(jobs: Sequence[Job]) -> list[str]:
    """Jobs, newest first."""
    return [job.job_id for job in sorted(jobs, key=lambda job: (job.created_at, job.job_id), reverse=True)]


AGES = st.lists(
    st.one_of(st.integers(0, 30), st.integers(0, 100_000), st.integers(0, 6 * 365 * 86_400_000)), max_size=60
)


@given(ages=AGES, limit=st.integers(1, 20))
async def test_each_job_comes_once_and_in_order(ages: list[int], limit: int) -> None:
    """Whether they were created in one millisecond or over years."""
    lists = Lists()
    jobs = [lists.add(timedelta(milliseconds=age), number) for number, age in enumerate(ages)]
    pages = await lists.pages(Filters(), limit)
    assert ids(pages) == sorted_ids(jobs)
    assert all(len(page.records) <= limit for page in pages)


@given(ages=AGES, limit=st.integers(1, 20))
async def test_filtered_list_holds_all_that_match(ages: list[int], limit: int) -> None:
    """And nothing else."""
    lists = Lists()
    jobs = [lists.add(timedelta(milliseconds=age), number) for number, age in enumerate(ages)]
    odd = [job for job in jobs if job.task is not None and job.task.labels]
    assert ids(await lists.pages(Filters(kind="greet", label="odd"), limit)) == sorted_ids(odd)


async def test_thousands_in_one_window_are_all_found() -> None:
    """More than a window is read for: the rest comes with the next one."""
    lists = Lists()
    chance = random.Random(1)
    jobs = [lists.add(timedelta(milliseconds=chance.randrange(900)), number) for number in range(3_000)]
    assert ids(await lists.pages(Filters(), 200)) == sorted_ids(jobs)


async def test_long_search_stops_and_says_how_far_it_came() -> None:
    """The cursor goes on there, and the one that matches is found in the end."""
    lists = Lists()
    for number in range(module.LOOKED_AT_MAX * 2):
        lists.add(timedelta(seconds=number), number)
    rare = lists.add(timedelta(seconds=module.LOOKED_AT_MAX * 2), 10**6, status=Status.FAILED)

    pages = await lists.pages(Filters(status=Status.FAILED), 10)

    assert ids(pages) == [rare.job_id]
    assert 2 <= len(pages) <= 5
    assert all(page.searched_back_to is not None for page in pages[:-1])
    assert pages[-1].searched_back_to is None


@pytest.mark.parametrize("filters", [Filters(), Filters(kind="greet"), Filters(label="odd")])
async def test_page_after_another_looks_at_little_more_than_it_shows(
    filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do the newest jobs, when they were read a moment ago: it is known how close together jobs lie."""
    lists = Lists()
    for number in range(2_000):
        lists.add(timedelta(minutes=number), number)
    windows = lists.windows(monkeypatch)
    first = await lists.listing.page(filters, None, 50)
    assert len(windows) > 2
    for after in (None, first.next):
        windows.clear()
        assert len((await lists.listing.page(filters, after, 50)).records) == 50
        # Every other job is odd: it takes a second window, and at times a third.
        assert len(windows) <= (1 if filters.label is None else 3)
        assert sum(windows) <= (100 if filters.label is None else 250)


async def test_list_of_few_is_searched_by_the_database_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it was read a moment ago, it is known how few of the jobs match."""
    lists = Lists()
    for number in range(2_000):
        labels = ("rare",) if number % 10 == 0 else ()
        lists.add(timedelta(minutes=number), number, task=Task("greet", "{}", labels=labels))
    before = await lists.listing.page(Filters(label="rare"), None, 50)
    windows = lists.windows(monkeypatch)
    assert await lists.listing.page(Filters(label="rare"), None, 50) == before
    assert len(windows) == 1
    assert 500 <= windows[0] <= 1_000


@pytest.mark.parametrize(("filters", "most"), [(Filters(), 100), (Filters(label="rare"), 1_100)])
async def test_time_without_jobs_says_nothing_of_how_close_they_lie(
    filters: Filters, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour ago they came four times a second."""
    lists = Lists()
    for number in range(5_000):
        labels = ("rare",) if number % 10 == 0 else ()
        ago = timedelta(minutes=33, seconds=number / 4)
        lists.add(ago, number, task=Task("greet", "{}", labels=labels))
    before = await lists.listing.page(filters, None, 50)
    windows = lists.windows(monkeypatch)
    for _ in range(3):
        windows.clear()
        assert (await lists.listing.page(filters, None, 50)).records == before.records
        assert sum(windows) <= most


async def test_what_was_known_of_the_newest_jobs_is_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since then they may have come in much faster: a wide window would hold too many."""
    lists = Lists()
    for number in range(100):
        lists.add(timedelta(minutes=number), number)
    windows = lists.windows(monkeypatch)
    await lists.listing.page(Filters(), None, 50)
    lists.now += module.NEWEST_REMEMBERED_FOR
    windows.clear()
    await lists.listing.page(Filters(), None, 50)
    assert windows[0] == 0


async def test_more_in_a_millisecond_than_a_page_holds_are_all_found() -> None:
    """Where a window is cut within a millisecond, the rest of it comes with the next page."""
    lists = Lists()
    jobs = [lists.add(timedelta(milliseconds=number // 900), number) for number in range(1_000)]
    assert ids(await lists.pages(Filters(), 7)) == sorted_ids(jobs)
    assert ids(await lists.pages(Filters(label="odd"), 7)) == sorted_ids(jobs[1::2])


@pytest.mark.parametrize("every", [1, 5, 50])
async def test_nothing_is_missed_where_windows_meet(every: int) -> None:
    """Times are whole milliseconds; the time from one job to the next is none, on average."""
    lists = Lists()
    status = [Status.FAILED if number % every == 0 else Status.FINISHED for number in range(3_000)]
    jobs = [
        lists.add(timedelta(milliseconds=7 * number // 3), number, status=each) for number, each in enumerate(status)
    ]
    pages = await lists.pages(Filters(status=Status.FAILED), 20)
    assert ids(pages) == sorted_ids(jobs[::every])
    assert {page.next.at.microsecond % 1000 for page in pages if page.next is not None} == {0}


async def test_search_in_a_batch_or_of_a_key_goes_in_steps() -> None:
    """Each page says how far it has looked."""
    lists = Lists()
    place = place_of("greet", "a", "")
    jobs = [
        lists.add(timedelta(seconds=600 - n), n, batch="b", object_id=place, run=n) for n in range(2 * module.READ_MAX)
    ]
    rare = lists.add(timedelta(seconds=601), 0, batch="b", object_id=place, run=0, status=Status.FAILED)
    lists.stored.batches["b"] = Batch("b", [job.job_id for job in jobs])
    for filters in (Filters(batch="b", status=Status.FAILED), Filters(kind="greet", key="a", status=Status.FAILED)):
        pages = await lists.pages(filters, 10)
        assert ids(pages) == [rare.job_id]
        assert len(pages) in {2, 3}
        assert pages[0].searched_back_to == jobs[module.READ_MAX].created_at
        assert pages[-1].searched_back_to is None


async def test_page_of_a_batch_reads_no_other_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its members are known by their ids before any is read."""
    lists = Lists()
    jobs = [lists.add(timedelta(seconds=99 - number), number, batch="b") for number in range(99)]
    lists.stored.batches["b"] = Batch("b", [job.job_id for job in jobs])
    asked: list[str] = []

    async def records(job_ids: Sequence[str]) -> dict[str, JobRecord]:
        asked.extend(job_ids)
        return await lists.jobs.records(job_ids)

    monkeypatch.setattr(lists.stored, "records", records)
    await lists.listing.page(Filters(batch="b"), None, 10)
    assert len(asked) == 11


async def test_list_of_a_key_needs_no_search() -> None:
    """Of a kind, and of the root kind."""
    lists = Lists()
    place = place_of("greet", "a", "")
    of_key = [lists.add(timedelta(days=9 - run), run, object_id=place, run=run) for run in range(1, 6)]
    root = lists.add(timedelta(days=1), 99, object_id="a", task=None)
    assert ids(await lists.pages(Filters(kind="greet", key="a"), 2)) == [job.job_id for job in reversed(of_key)]
    assert ids(await lists.pages(Filters(kind="sleep", key="a"), 2)) == [root.job_id]
    assert ids(await lists.pages(Filters(key="a"), 2)) == [root.job_id, *(job.job_id for job in reversed(of_key))]


async def test_list_since_a_time_ends_there() -> None:
    """That time is included."""
    lists = Lists()
    jobs = [lists.add(timedelta(hours=hours), hours) for hours in range(10)]
    pages = await lists.pages(Filters(since=NOW - timedelta(hours=4)), 3)
    assert ids(pages) == sorted_ids(jobs[:5])


async def test_list_of_a_batch_has_its_members() -> None:
    """Page by page, and with other filters."""
    lists = Lists()
    jobs = [lists.add(timedelta(seconds=7 - number), number, batch="b") for number in range(7)]
    lists.add(timedelta(0), 99)
    lists.stored.batches["b"] = Batch("b", [job.job_id for job in jobs])
    assert ids(await lists.pages(Filters(batch="b"), 3)) == sorted_ids(jobs)
    assert ids(await lists.pages(Filters(batch="b", label="odd"), 3)) == sorted_ids(jobs[1::2])


@pytest.mark.parametrize("text", ["", "x", "run-", "1", "9" * 15 + "-00000000-0000-7000-8000-000000000000", "run-1 "])
def test_garbage_is_no_cursor(text: str) -> None:
    """It says where cursors come from."""
    with pytest.raises(InvalidRequest, match="cursor"):
        cursor_of(text)


async def test_cursor_of_another_list_is_refused() -> None:
    """A list of a key goes on by run numbers, any other one by times."""
    lists = Lists()
    with pytest.raises(InvalidRequest, match="other filters"):
        await lists.listing.page(Filters(), Cursor(run=1), 10)
    with pytest.raises(InvalidRequest, match="other filters"):
        await lists.listing.page(Filters(kind="greet", key="a"), Cursor(NOW, "x"), 10)
