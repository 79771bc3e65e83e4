"""What lists, batches and the overview are made from, on the fake and on a real server alike."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from api_server.domain import Batch, Filters, Lived
from api_server.store.batches import LOOKED_UP_AT_ONCE
from hasty.jobs import Ending, Job, Report, Status, Task, place_of
from tests.store.conftest import FakeLists, RealLists
from tests.store.jobs import NOON, OWNER

pytestmark = pytest.mark.asyncio(loop_scope="session")

Lists = RealLists | FakeLists
SECOND = timedelta(seconds=1)


def job_at(seconds: float, key: str | None = None, run: int = 1, job_id: str | None = None) -> Job:
    """A job of a kind, created so many seconds after noon."""
    at = NOON + timedelta(seconds=seconds)
    job_id = job_id or f"00000000-0000-7000-8000-{int(seconds * 1000) + 10**6:012d}"
    task = Task("greet", "{}", labels=("a", "b"))
    return Job(job_id, place_of("greet", key, job_id), run, at, dispatches=1, task=task)


async def stored(lists: Lists, *jobs: Job) -> list[Job]:
    """Store jobs."""
    assert not await lists.jobs.insert(jobs, NOON, OWNER)
    return list(jobs)


async def test_jobs_are_found_by_their_creation(lists: Lists) -> None:
    """From one time to another, both included, the newest first, up to a limit."""
    await stored(lists, *(job_at(n) for n in range(5)))

    async def found(first: datetime, last: datetime, limit: int = 10) -> list[datetime]:
        return [record.job.created_at for record in await lists.created_between(first, last, limit)]

    assert await found(NOON + SECOND, NOON + 3 * SECOND) == [NOON + n * SECOND for n in (3, 2, 1)]
    assert await found(NOON, NOON + 9 * SECOND, 2) == [NOON + n * SECOND for n in (4, 3)]
    assert await found(NOON + 9 * SECOND, NOON + 10 * SECOND) == []


async def test_only_what_matches_is_found(lists: Lists) -> None:
    """By kind, status, label and key, and all of them together; the newest first, up to a limit."""
    root = Job("00000000-0000-7000-8000-000000000001", "a key", 3, NOON, dispatches=1)
    keyed, keyless, other = await stored(lists, job_at(2, "a key"), job_at(1), replace(job_at(3), task=Task("b", "{}")))
    await stored(lists, root)
    await lists.jobs.apply(Status.FAILED, [Ending(keyless.turn, Status.FAILED, 1)], NOON)

    async def found(limit: int = 10, **filters: object) -> list[str]:
        wanted = Filters(**filters)  # type: ignore[arg-type]  # fields of filters
        records = await lists.search(NOON, NOON + 2.5 * SECOND, wanted, "sleep", limit)
        return [record.job.job_id for record in records]

    assert await found(kind="greet") == [keyed.job_id, keyless.job_id]
    assert await found(1, kind="greet") == [keyed.job_id]
    assert await found(kind="sleep") == [root.job_id]
    assert await found(status=Status.FAILED) == [keyless.job_id]
    assert await found(label="b") == [keyed.job_id, keyless.job_id]
    assert await found(label="another") == []
    assert await found(key="a key") == [keyed.job_id, root.job_id]
    assert await found(kind="greet", status=Status.PROCESSING, label="a", key="a key") == [keyed.job_id]
    assert await found(kind="b") == [], other.created_at


async def test_runs_of_a_place_are_found_newest_first(lists: Lists) -> None:
    """And those before a run number."""
    jobs = await stored(lists, *(job_at(n, "k", run=n) for n in range(1, 5)), job_at(9, "other"))
    place = jobs[0].object_id
    assert [record.job.run for record in await lists.of_place(place, None, 3)] == [4, 3, 2]
    assert [record.job.run for record in await lists.of_place(place, 3, 3)] == [2, 1]
    far, *_ = await stored(lists, job_at(20, "far apart", run=1), job_at(21, "far apart", run=700))
    assert [record.job.run for record in await lists.of_place(far.object_id, None, 3)] == [700, 1]
    assert await lists.of_place("nobody's", None, 3) == []


async def test_batch_is_kept_with_its_jobs(lists: Lists) -> None:
    """Its jobs come in their order; a repetition of its request takes its place."""
    jobs = await stored(lists, job_at(2), job_at(1))
    for kept in (jobs[:1], jobs):
        await lists.keep(Batch("a batch", [job.job_id for job in kept]), NOON)

    batch = await lists.get("a batch")
    assert batch is not None
    assert list(batch.job_ids) == [job.job_id for job in jobs]
    assert list(await lists.members("a batch")) == [job.job_id for job in jobs]
    assert await lists.statuses([*batch.job_ids, "unknown"]) == dict.fromkeys(batch.job_ids, Status.PROCESSING)
    assert await lists.get("another") is None
    many = await stored(lists, *(job_at(10 + n) for n in range(LOOKED_UP_AT_ONCE + 1)))
    assert await lists.counts([job.job_id for job in many]) == {Status.PROCESSING: len(many)}
    assert await lists.statuses([job.job_id for job in many]) == {job.job_id: Status.PROCESSING for job in many}
    assert not await lists.members("another")


async def test_outcome_of_a_batch_is_kept_until_it_gets_more_jobs(lists: Lists) -> None:
    """As a repetition of its request may give it."""
    await lists.keep(Batch("a batch", ["a", "b"]), NOON)
    assert await lists.outcome("a batch") is None
    await lists.keep_outcome("a batch", {Status.FINISHED: 1, Status.FAILED: 1})
    assert await lists.outcome("a batch") == {Status.FINISHED: 1, Status.FAILED: 1}
    await lists.keep(Batch("a batch", ["a", "b", "c"]), NOON)
    assert await lists.outcome("a batch") is None
    await lists.keep(Batch("empty", []), NOON)
    await lists.keep_outcome("empty", {})
    assert await lists.outcome("empty") == {}
    assert await lists.outcome("another") is None


async def test_lives_tell_what_the_overview_needs(lists: Lists) -> None:
    """When a job began and ended, and how many have not ended, up to a limit."""
    ended, running, _ = await stored(lists, job_at(3), job_at(2), job_at(-99))
    report = Report("w", "v", started_at=NOON.timestamp() + 4, ended_at=NOON.timestamp() + 5)
    ending = Ending(replace(ended.turn), Status.FINISHED, 1, 1, report)
    await lists.jobs.apply_reports([ending], NOON + 6 * SECOND)

    assert await lists.lived(NOON, NOON + 9 * SECOND, 10) == [
        Lived(ended.created_at, Status.FINISHED, report.started_at, NOON + 6 * SECOND),
        Lived(running.created_at, Status.PROCESSING, None, None),
    ]
    assert await lists.unfinished(10) == 2
    assert await lists.unfinished(1) == 1


async def test_unfinished_jobs_are_counted_by_kind(lists: Lists) -> None:
    """Of the kinds that are asked for; a job without a kind is of the root kind."""
    ended, *_ = await stored(lists, *(job_at(n) for n in range(3)), replace(job_at(3), task=Task("b", "{}")))
    await lists.jobs.apply(Status.FINISHED, [Ending(ended.turn, Status.FINISHED, 1)], NOON)
    await stored(lists, Job("00000000-0000-7000-8000-000000000001", "a key", 3, NOON, dispatches=1))

    assert await lists.unfinished_of({"greet", "unknown"}, "sleep", 10) == {"greet": 2}
    assert await lists.unfinished_of({"greet", "b", "sleep"}, "sleep", 10) == {"greet": 2, "b": 1, "sleep": 1}
    assert await lists.unfinished_of({"b", "greet"}, "b", 10) == {"greet": 2, "b": 2}
    assert (await lists.unfinished_of({"greet", "b", "sleep"}, "sleep", 3)).total() == 3
