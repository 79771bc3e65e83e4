"""What is said of a job: one word, one sentence, one number."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api_server.domain import JobRecord, PastTurn
from api_server.explanation import (
    Circumstances,
    Phase,
    Run,
    Silence,
    Stopped,
    due_at,
    failure_of,
    phase_of,
    revision_of,
    why,
)
from hasty.jobs import Failure, Job, Reason, Report, Status, Task

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FAILURE = Failure(Reason.EXCEPTION, "HTTPError", "503 from there\nand more", "...")
FAILED = Report("w-7", "v1", 0, 1, failure=FAILURE)
FIRST = PastTurn(1, 1, Status.PROCESSING, FAILED)
JOB = Job("an id", "\x1fan id", 1, NOON, dispatches=1, task=Task("resize", "{}"))
RUNNING = Run("w-7", 12, 0.4)
IDLE = Circumstances("resize", 5, 120, None, 1, 0)


def record(job: Job = JOB, due_s: float = 180, *history: PastTurn) -> JobRecord:
    """A job that is processing, and due so many seconds after noon."""
    return JobRecord(job, NOON + due_s * SECOND, None, None, history)


def ended(status: Status, report: Report | None = None) -> JobRecord:
    """A job that has ended two seconds after it was accepted."""
    return JobRecord(replace(JOB, status=status), None, NOON + 2 * SECOND, report, ())


SLEEPING = record(replace(JOB, task=None))
ASLEEP = replace(IDLE, kind="sleep")
SCHEDULED = record(replace(JOB, dispatches=0), 41)
RETRYING = record(replace(JOB, dispatches=0, turn_number=2), 41, FIRST)
CANCELLING = record(replace(JOB, cancel_at=NOON - 3 * SECOND))


@pytest.mark.parametrize(
    ("given", "running", "phase"),
    [
        (record(), False, Phase.QUEUED),
        (record(replace(JOB, dispatches=0), 0), False, Phase.QUEUED),
        (record(), True, Phase.RUNNING),
        (SCHEDULED, False, Phase.SCHEDULED),
        (RETRYING, False, Phase.RETRYING),
        (CANCELLING, True, Phase.CANCELLING),
        (ended(Status.FINISHED), True, None),
    ],
)
def test_phase_is_what_is_known(given: JobRecord, running: bool, phase: Phase | None) -> None:  # noqa: FBT001 - a row
    """The outcome before the request to stop, that before what a worker says, that before what is due."""
    assert phase_of(given, NOON, running=running) is phase


def test_only_a_time_ahead_is_shown_as_due() -> None:
    """What was dispatched is due for another reason: nobody asked for that time."""
    assert due_at(SCHEDULED, NOON) == NOON + 41 * SECOND
    assert due_at(SCHEDULED, NOON + 42 * SECOND) is None
    assert due_at(record(), NOON) is None


@pytest.mark.parametrize(
    ("given", "around", "sentence"),
    [
        (
            record(),
            replace(IDLE, run=RUNNING),
            "attempt 1 of 5 runs on w-7 for 12 s of at most 120 s, last sign 0.4 s ago".replace("120 s", "2 min"),
        ),
        (
            record(replace(JOB, task=None)),
            replace(IDLE, timeout_s=None, run=RUNNING),
            "attempt 1 of 5 runs on w-7 for 12 s, last sign 0.4 s ago",
        ),
        (record(), replace(IDLE, workers=0, left_s=720.0), "no worker serves resize; the last one left 12 min ago"),
        (record(), replace(IDLE, workers=0, left_s=None), "no worker serves resize; none was seen lately"),
        (record(), IDLE, "it has been waiting for a free place for 0 s"),
        (record(replace(JOB, dispatches=0), 0), IDLE, "it is about to be handed to the broker"),
        (
            record(),
            replace(IDLE, free_slots=0, unfinished=4200),
            "it has waited for 0 s: all places for resize are taken; about 4,200 jobs of all kinds are unfinished",
        ),
        (
            record(),
            replace(IDLE, unfinished=100),
            "it has been waiting for a free place for 0 s; about 100 jobs of all kinds are unfinished",
        ),
        (record(), replace(IDLE, unfinished=99), "it has been waiting for a free place for 0 s"),
        (SLEEPING, replace(ASLEEP, free_slots=7), "for 0 s it has slept on a worker, or has been on its way to one"),
        (
            SLEEPING,
            replace(ASLEEP, free_slots=0),
            "for 0 s it has slept on a worker, or waited for a place: all are taken",
        ),
        (SLEEPING, ASLEEP, "it has been waiting for a free place for 0 s"),
        (
            record(),
            replace(IDLE, workers=0, broker_unreachable_s=12, silence=Silence("w-7", 6, 44)),
            "the broker has been unreachable for 12 s; the job goes on when it is back",
        ),
        (
            record(),
            replace(IDLE, workers=0, silence=Silence("w-7", 6, 44)),
            "w-7 ran it and has been silent for 6 s; another worker begins it in about 44 s",
        ),
        (
            record(),
            replace(IDLE, silence=Silence("w-7", 60, 0)),
            "w-7 ran it and has been silent for 60 s; another worker begins it at any moment",
        ),
        (
            record(),
            replace(IDLE, stopped=Stopped("w-7", 2)),
            "its run on w-7 ended 2 s ago; the ending has not arrived yet",
        ),
        (record(), replace(IDLE, being_published=True), "it is about to be handed to the broker"),
        (
            record(),
            replace(IDLE, owner_gone_s=12),
            "the api-server that took it has been gone for 12 s; another one hands it over soon",
        ),
        (SCHEDULED, IDLE, "it starts in 41 s, as requested"),
        (RETRYING, IDLE, "next attempt in 41 s; the last one ended with HTTPError: 503 from there"),
        (CANCELLING, replace(IDLE, run=RUNNING), "it was asked to stop 3 s ago, and still runs on w-7"),
        (ended(Status.FINISHED), IDLE, "it finished 2.0 s after it was accepted"),
        (
            replace(ended(Status.FINISHED), ended_at=NOON + 0.018 * SECOND),
            IDLE,
            "it finished 18 ms after it was accepted",
        ),
        (ended(Status.CANCELLED), IDLE, "it was cancelled 2.0 s after it was accepted"),
        (ended(Status.FAILED, FAILED), IDLE, "it failed 2.0 s after it was accepted: HTTPError: 503 from there"),
        (
            ended(Status.FAILED, replace(FAILED, failure=Failure(Reason.LOST))),
            IDLE,
            "it failed 2.0 s after it was accepted: lost",
        ),
    ],
)
def test_why_says_facts_and_times(given: JobRecord, around: Circumstances, sentence: str) -> None:
    """One sentence, whatever is going on."""
    assert why(given, NOON, around) == sentence


def test_revision_grows_and_never_goes_back() -> None:
    """Through two attempts, a request to stop, and the outcome; a dispatch can be taken back, and is no change."""
    steps = [
        JOB,
        replace(JOB, dispatches=0, turn_number=2),
        replace(JOB, turn_number=2, cancel_at=NOON),
        replace(JOB, turn_number=2, cancel_at=NOON, status=Status.CANCELLED),
    ]
    revisions = [revision_of(job) for job in steps]
    assert [revision_of(replace(job, dispatches=3)) for job in steps] == revisions
    assert revisions == sorted(set(revisions))


def test_error_is_that_of_the_latest_attempt() -> None:
    """A job that finished has none, whatever came before."""
    assert failure_of(RETRYING) == FAILURE
    assert failure_of(ended(Status.FAILED, FAILED)) == FAILURE
    assert failure_of(replace(ended(Status.FINISHED), history=(FIRST,))) is None
    assert failure_of(record()) is None
