"""What is told of a job's past: a table of everything that can have happened to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api_server.domain import JobRecord, PastTurn
from api_server.timeline import Event, Happening, timeline
from api_server.workers import Running
from hasty.jobs import Failure, Job, Reason, Report, Status, Task

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOW = NOON + timedelta(minutes=1)
JOB = Job("an id", "\x1fan id", 1, NOON, dispatches=1, task=Task("resize", "{}"))
CREATED = Event(NOON, Happening.CREATED, 1)
NOT_TODAY = Failure(Reason.EXCEPTION, "HTTPError", "503 from there\nand more", "...")


def after(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def report(
    begin_s: float, end_s: float, failure: Failure | None = None, run: int = 1, *, counts: bool = True
) -> Report:
    """What a worker says of a run that began and ended so many seconds after noon."""
    noon_s = NOON.timestamp()
    return Report("w-7", "v1", noon_s + begin_s, noon_s + end_s, run, failure=failure, counts=counts)


def ended(status: Status, at_s: float, of: Report | None, *history: PastTurn, **changes: object) -> JobRecord:
    """A job that came to an outcome."""
    return JobRecord(replace(JOB, status=status, **changes), None, after(at_s), of, history)  # type: ignore[arg-type]


def on_worker(at_s: float, what: Happening, attempt: int = 1, detail: str = "", run: int = 1) -> Event:
    """What happened on the worker."""
    return Event(after(at_s), what, attempt, run, "w-7", "v1", detail)


def attempt_of(number: int) -> Task:
    """The job's task, in an attempt."""
    return Task("resize", "{}", attempt=number)


def failed_with(reason: Reason, message: str) -> tuple[JobRecord, list[Event]]:
    """A job of one attempt that failed, and what is told of it."""
    failure = Failure(reason, "Fail" if reason is Reason.FAILED_BY_HANDLER else "", message)
    detail = f"Fail: {message}" if failure.type else f"{reason}: {message}"
    events = [CREATED, on_worker(1, Happening.STARTED), on_worker(3, Happening.FAILED_FOR_GOOD, detail=detail)]
    return ended(Status.FAILED, 3, report(1, 2, failure)), events


FIVE_TIMES = (
    ended(
        Status.FAILED,
        41,
        report(40, 41, NOT_TODAY),
        *(PastTurn(n, n, Status.PROCESSING, report(10 * n - 10, 10 * n - 9, NOT_TODAY)) for n in (1, 2, 3, 4)),
        turn_number=5,
        task=attempt_of(5),
    ),
    [
        CREATED,
        *(
            event
            for n in (1, 2, 3, 4)
            for event in (
                on_worker(10 * n - 10, Happening.STARTED, n),
                on_worker(10 * n - 9, Happening.FAILED, n, "HTTPError: 503 from there"),
            )
        ),
        on_worker(40, Happening.STARTED, 5),
        on_worker(41, Happening.FAILED_FOR_GOOD, 5, "HTTPError: 503 from there"),
    ],
)
SNOOZED = (
    ended(
        Status.FINISHED,
        32,
        report(31, 32),
        PastTurn(1, 1, Status.PROCESSING, report(1, 2, counts=False)),
        turn_number=2,
    ),
    [
        CREATED,
        on_worker(1, Happening.STARTED),
        on_worker(2, Happening.SNOOZED),
        on_worker(31, Happening.STARTED),
        on_worker(32, Happening.FINISHED),
    ],
)
CANCELLED_RUNNING = (
    ended(Status.CANCELLED, 6, report(1, 6), cancel_at=after(5)),
    [
        CREATED,
        on_worker(1, Happening.STARTED),
        Event(after(5), Happening.CANCEL_REQUESTED, 1),
        on_worker(6, Happening.CANCELLED),
    ],
)
CANCELLED_QUEUED = (
    ended(Status.CANCELLED, 6, report(6, 6, run=0), cancel_at=after(5)),
    [
        CREATED,
        Event(after(5), Happening.CANCEL_REQUESTED, 1),
        on_worker(6, Happening.CANCELLED, run=0),
    ],
)
BETWEEN_ATTEMPTS = (
    JobRecord(
        replace(JOB, dispatches=0, turn_number=2, task=attempt_of(2)),
        after(90),
        None,
        None,
        (PastTurn(1, 1, Status.PROCESSING, report(1, 2, NOT_TODAY)),),
    ),
    [
        CREATED,
        on_worker(1, Happening.STARTED),
        on_worker(2, Happening.FAILED, detail="HTTPError: 503 from there"),
        Event(after(90), Happening.DUE, 2),
    ],
)


@pytest.mark.parametrize(
    ("record", "events"),
    [
        (
            ended(Status.FINISHED, 3, report(1, 2)),
            [CREATED, on_worker(1, Happening.STARTED), on_worker(3, Happening.FINISHED)],
        ),
        failed_with(Reason.FAILED_BY_HANDLER, "too wide"),
        FIVE_TIMES,
        SNOOZED,
        failed_with(Reason.TIMEOUT, "it took longer than 2 s"),
        failed_with(Reason.LOST, "the process that ran it died"),
        CANCELLED_RUNNING,
        CANCELLED_QUEUED,
        (
            JobRecord(replace(JOB, dispatches=0), after(90), None, None, ()),
            [CREATED, Event(after(90), Happening.DUE, 1)],
        ),
        BETWEEN_ATTEMPTS,
        (JobRecord(JOB, after(180), None, None, ()), [CREATED]),
        (JobRecord(replace(JOB, dispatches=0), after(30), None, None, ()), [CREATED]),
        (ended(Status.CANCELLED, 46, None, task=None), [CREATED, Event(after(46), Happening.CANCELLED, 1)]),
    ],
    ids=[
        *("finished", "failed by its handler", "five attempts", "snoozed", "timeout", "lost", "cancelled while it ran"),
        *("cancelled while it waited", "delayed", "between attempts", "queued", "due a while ago", "without a report"),
    ],
)
def test_timeline_is_what_has_happened(record: JobRecord, events: list[Event]) -> None:
    """In order, with worker and version where one was there; a due time only while it waits for it."""
    assert timeline(record, NOW, None) == events


@pytest.mark.parametrize("cancel_at", [None, after(5)])
def test_running_turn_is_what_its_worker_says(cancel_at: datetime | None) -> None:
    """Also while it is asked to stop; no due time is shown beside it, and in its second run it says so."""
    given = replace(JOB, dispatches=0, turn_number=2, task=attempt_of(2), cancel_at=cancel_at)
    past = PastTurn(1, 1, Status.PROCESSING, report(1, 2, NOT_TODAY))
    running = Running("w-8", "v2", 2, 2, 2, after(4).timestamp(), None, None, 0.4)

    told = timeline(JobRecord(given, after(90), None, None, (past,)), NOW, running)

    asked = [] if cancel_at is None else [Event(cancel_at, Happening.CANCEL_REQUESTED, 2)]
    assert told[3:] == [Event(after(4), Happening.STARTED, 2, 2, "w-8", "v2"), *asked]


def test_order_is_that_of_cause_and_effect() -> None:
    """Whatever the worker's clock says: one that is late would show the begin before the job was made."""
    told = timeline(ended(Status.FINISHED, 3, report(-60, -59)), NOW, None)

    assert [event.what for event in told] == [Happening.CREATED, Happening.STARTED, Happening.FINISHED]
    assert [event.at for event in told] == [NOON, after(-60), after(3)]
