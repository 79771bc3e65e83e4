"""What becomes of a job when a handler's turn ends, on the fake and on a real server alike."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from hasty.jobs import Ending, Failure, Job, Reason, Report, Status, Task, place_of
from tests.store.jobs import NOON, OWNER, SECOND, Store, new_job

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPORT = Report("a worker", "v1", 1_767_355_200.5, 1_767_355_201.25)


def work(task: Task | None = None, key: str | None = None) -> Job:
    """A job of a kind."""
    job_id = str(uuid.uuid4())
    return Job(
        job_id, place_of("greet", key, job_id), 1, NOON, dispatches=1, task=task or Task("greet", '{"name": "$Ada"}')
    )


def end(job: Job, status: Status = Status.FINISHED, report: Report = REPORT, turn: int | None = None) -> Ending:
    """The end of a job's present turn, or of another one."""
    return Ending(replace(job.turn, number=turn or job.turn_number), status, 0.75, 1, report)


async def read(jobs: Store, job: Job) -> Job:
    """The job as it is stored now."""
    return (await jobs.get([job.job_id]))[job.job_id]


async def test_job_of_a_kind_comes_back_as_it_was(jobs: Store) -> None:
    """Its input may look like a field of the database's, or like an operator."""
    task = Task("greet", '{"$set": "$x"}', attempts=3, labels=("a", "$b"), versions=("v1", "v2"))
    job = replace(work(task, "a key"), retry_of="another", batch="a batch")

    await jobs.insert([job], NOON, OWNER)

    assert await read(jobs, job) == job
    record = (await jobs.records([job.job_id]))[job.job_id]
    assert (record.job, record.dispatch_due, record.ended_at, record.report, record.history) == (
        job,
        NOON,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("status", "report"),
    [
        (Status.FINISHED, replace(REPORT, output='"$status"')),
        (Status.FAILED, replace(REPORT, failure=Failure(Reason.EXCEPTION, "ValueError", "$no", "Traceback"))),
        (Status.CANCELLED, REPORT),
    ],
)
async def test_final_ending_is_kept_with_its_report(jobs: Store, status: Status, report: Report) -> None:
    """The job is never due again, and a second ending changes nothing."""
    job = work()
    await jobs.insert([job], NOON, OWNER)

    assert await jobs.apply_reports([end(job, status, report)], NOON + SECOND) == (1, set())
    assert await jobs.apply_reports([end(job, Status.FINISHED)], NOON + 2 * SECOND) == (0, set())

    record = (await jobs.records([job.job_id]))[job.job_id]
    assert record.job == replace(job, status=status, sleep_time_used=0.75)
    assert (record.report, record.ended_at, record.dispatch_due) == (report, NOON + SECOND, None)
    assert await jobs.due(NOON + timedelta(days=1), 10) == []


async def test_ending_that_says_again_begins_the_next_turn(jobs: Store) -> None:
    """Due after its delay, with one more attempt, and with what became of the turn before."""
    job, other = work(), work()
    await jobs.insert([job, other], NOON + 100 * SECOND, OWNER)
    failure = Failure(Reason.EXCEPTION, "OSError", "no", "")

    said = end(job, Status.PROCESSING, replace(REPORT, failure=failure, delay_s=7))
    snoozed = end(other, Status.PROCESSING, replace(REPORT, delay_s=3, counts=False))
    assert await jobs.apply_reports([said, snoozed], NOON) == (2, set())

    assert job.task is not None
    record = (await jobs.records([job.job_id]))[job.job_id]
    assert record.job == replace(job, turn_number=2, dispatches=0, task=replace(job.task, attempt=2))
    assert record.dispatch_due == NOON + 7 * SECOND
    assert [(past.number, past.attempt, past.status, past.report.failure) for past in record.history] == [
        (1, 1, Status.PROCESSING, failure)
    ]
    assert (await read(jobs, other)).task == other.task
    assert [one.job_id for one in await jobs.due(NOON + 3 * SECOND, 10)] == [other.job_id]


async def test_ending_of_an_earlier_turn_changes_nothing(jobs: Store) -> None:
    """It comes again when its acknowledgement was lost."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    again = end(job, Status.PROCESSING, replace(REPORT, delay_s=7))
    await jobs.apply_reports([again], NOON)

    assert await jobs.apply_reports([again], NOON + SECOND) == (0, set())
    assert await jobs.apply_reports([end(job)], NOON + SECOND) == (0, set())

    assert (await read(jobs, job)).turn_number == 2
    assert await jobs.apply_reports([end(job, turn=2)], NOON + SECOND) == (1, set())


async def test_root_job_gets_a_task_with_its_second_turn(jobs: Store) -> None:
    """From then on it is dispatched as any job of its kind."""
    job = new_job("an object")
    await jobs.insert([job], NOON, OWNER)
    turn = replace(job.turn, task=Task("resize", ""))

    await jobs.apply_reports([Ending(turn, Status.PROCESSING, 1, 1, REPORT)], NOON)

    assert (await read(jobs, job)).task == Task("resize", '{"object_id": "an object"}', attempt=2)
    assert (await read(jobs, job)).is_root


async def test_only_the_latest_turns_are_kept(jobs: Store) -> None:
    """25 of them; the first ones go first."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    for _ in range(27):
        await jobs.apply_reports([end(await read(jobs, job), Status.PROCESSING)], NOON)

    record = (await jobs.records([job.job_id]))[job.job_id]
    assert [past.number for past in record.history] == list(range(3, 28))


async def test_unknown_jobs_of_reports_are_named(jobs: Store) -> None:
    """As those of plain endings."""
    assert await jobs.apply_reports([end(job := work())], NOON) == (0, {job.job_id})


async def test_cancelled_job_is_due_at_once(jobs: Store) -> None:
    """Once: what was dispatched without its cancellation does not postpone it."""
    job, ended = work(), work()
    await jobs.insert([job, ended], NOON + 100 * SECOND, OWNER)
    await jobs.apply_reports([end(ended)], NOON)

    await jobs.request_cancel([job.job_id, ended.job_id, "unknown"], NOON)
    await jobs.request_cancel([job.job_id], NOON + SECOND)
    await jobs.mark_dispatched([job.job_id], 2, NOON + 200 * SECOND)
    await jobs.postpone({job.job_id: 1}, NOON + 200 * SECOND)

    assert await jobs.due(NOON, 10) == [replace(job, cancel_at=NOON)]
    assert (await read(jobs, ended)).cancel_at is None
    await jobs.mark_dispatched([job.job_id], 2, NOON + 10 * SECOND, cancelling=True)
    assert await jobs.due(NOON, 10) == []


async def test_cancelled_job_does_not_wait_for_its_next_turn(jobs: Store) -> None:
    """Its delay does not count any more."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    await jobs.request_cancel([job.job_id], NOON)

    await jobs.apply_reports([end(job, Status.PROCESSING, replace(REPORT, delay_s=3600))], NOON + SECOND)

    assert [(one.job_id, one.turn_number) for one in await jobs.due(NOON + SECOND, 10)] == [(job.job_id, 2)]


async def test_dispatch_of_an_earlier_turn_is_not_counted(jobs: Store) -> None:
    """The sweep that published it may come late."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    await jobs.apply_reports([end(job, Status.PROCESSING)], NOON)

    await jobs.mark_dispatched([job.job_id], 1, NOON + 100 * SECOND, turn=1)

    assert [one.dispatches for one in await jobs.due(NOON, 10)] == [0]


async def test_later_turn_that_is_made_due_again_is_marked(jobs: Store) -> None:
    """With its number, so that the mark is not that of the turn after it."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    await jobs.apply_reports([end(job, Status.PROCESSING)], NOON)
    await jobs.mark_dispatched([job.job_id], 1, NOON + 100 * SECOND, turn=2)

    assert await jobs.make_due([job.job_id], NOON) == 1

    assert [(one.turn_number, one.dispatches, one.unanswered_turn) for one in await jobs.due(NOON, 10)] == [(2, 0, 2)]


async def test_running_job_is_postponed(jobs: Store) -> None:
    """Its next dispatch is not the turn's first, whether that one was confirmed, made due again, or neither."""
    unconfirmed, once, thrice = (replace(work(), dispatches=number) for number in (0, 1, 3))
    await jobs.insert([unconfirmed, once, thrice], NOON, OWNER)

    await jobs.postpone({job.job_id: 1 for job in (unconfirmed, once, thrice)}, NOON + SECOND)
    moved = await jobs.make_due([unconfirmed.job_id, once.job_id], NOON)

    assert moved == 0
    assert await jobs.due(NOON, 10) == []
    later = {job.job_id: job.dispatches for job in await jobs.due(NOON + SECOND, 10)}
    assert later == {unconfirmed.job_id: 2, once.job_id: 2, thrice.job_id: 3}


async def test_next_turn_is_not_postponed(jobs: Store) -> None:
    """The sweep that saw the turn before it run may come late."""
    job = work()
    await jobs.insert([job], NOON, OWNER)
    await jobs.apply_reports([end(job, Status.PROCESSING)], NOON)

    await jobs.postpone({job.job_id: 1}, NOON + 100 * SECOND)

    assert [(one.turn_number, one.dispatches) for one in await jobs.due(NOON, 10)] == [(2, 0)]


async def test_scheduled_job_keeps_its_time_in_a_new_stream(jobs: Store) -> None:
    """And only jobs with a task are made due when theirs is the stream that is new."""

    def at(seconds: int) -> datetime:
        return NOON + seconds * SECOND

    scheduled, queued, root = replace(work(), dispatches=0), work(), replace(new_job("root"), dispatches=1)
    await jobs.insert([scheduled, queued, root], at(100), OWNER, {scheduled.job_id: at(50)})

    assert await jobs.make_all_due(NOON, tasks_only=True) == 1
    assert [job.job_id for job in await jobs.due(at(49), 10)] == [queued.job_id]
    assert await jobs.make_all_due(NOON) == 1
    assert {job.job_id for job in await jobs.due(at(49), 10)} == {queued.job_id, root.job_id}
