"""What a job is doing just now, in one word and in one sentence. Pure: no clock, no input or output."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from api_server.domain import JobRecord
from hasty.jobs import SLEEP, TERMINAL, Failure, Job, Status
from hasty.values import quick_dataclass

MANY: Final = 100
"""From so many unfinished jobs on, their number is told."""

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400


class Phase(StrEnum):
    """What is known of a job while it is processing: news, which may lag behind or be lost."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    CANCELLING = "cancelling"


@quick_dataclass(frozen=True, slots=True)
class Run:
    """What a worker says of a turn that it runs, `heard_s` seconds ago: it has run for `for_s` seconds."""

    worker: str
    for_s: float
    heard_s: float


@quick_dataclass(frozen=True, slots=True)
class Silence:
    """A worker ran a turn when it was last heard, `for_s` seconds ago; after `elsewhere_in_s` more, others begin it."""

    worker: str
    for_s: float
    elsewhere_in_s: float


@quick_dataclass(frozen=True, slots=True)
class Stopped:
    """A worker ran a turn, and has not named it since `for_s` seconds ago, though it is heard: its run has ended."""

    worker: str
    for_s: float


@quick_dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides how a job goes on: `run` if a worker runs it, and how many workers serve its kind.

    `left_s` says how long ago the last of them was heard, if any was. `attempts` and `timeout_s` are the kind's.
    `free_slots` are the places that workers have for the kind, and `unfinished` counts all jobs that have not ended, as
    of late; both are None where that is not known. `being_published` is known by the api-server that took the job; of
    another one, `owner_gone_s` says for how long it has not renewed its lease, if it is overdue.
    """

    kind: str
    attempts: int
    timeout_s: float | None
    run: Run | None
    workers: int
    left_s: float | None
    free_slots: int | None = None
    unfinished: int | None = None
    broker_unreachable_s: float | None = None
    silence: Silence | None = None
    stopped: Stopped | None = None
    being_published: bool = False
    owner_gone_s: float | None = None


def phase_of(record: JobRecord, now: datetime, *, running: bool) -> Phase | None:
    """Say what a job is doing; None when it has ended."""
    job = record.job
    if job.status in TERMINAL:
        return None
    if job.cancel_at is not None:
        return Phase.CANCELLING
    if running:
        return Phase.RUNNING
    if due_at(record, now) is not None:
        return Phase.SCHEDULED if job.turn_number == 1 else Phase.RETRYING
    return Phase.QUEUED


def due_at(record: JobRecord, now: datetime) -> datetime | None:
    """Return when a job's turn is due, where that lies ahead and was never dispatched."""
    due = record.dispatch_due
    return due if due is not None and record.job.dispatches == 0 and due > now else None


def revision_of(job: Job) -> int:
    """Return a number that never goes back, and grows with each turn, a request to cancel, and the outcome.

    Not with a dispatch: it is taken back when it is unknown whether it reached the broker.
    """
    if job.status in TERMINAL:
        return 4 * job.turn_number + 4
    return 4 * job.turn_number + (2 if job.cancel_at is not None else 0)


def failure_of(record: JobRecord) -> Failure | None:
    """Return how a job failed; while it is processing, how its latest attempt did."""
    if record.job.status is Status.FINISHED:
        return None
    if record.report is not None:
        return record.report.failure
    return record.history[-1].report.failure if record.history else None


def why(record: JobRecord, now: datetime, around: Circumstances) -> str:
    """Say in one sentence why a job is where it is, and what comes next."""
    job = record.job
    match phase_of(record, now, running=around.run is not None):
        case None:
            return _outcome(record)
        case Phase.CANCELLING:
            since = _ago(now, job.cancel_at)
            return f"it was asked to stop {since}" + (f", and still runs on {around.run.worker}" if around.run else "")
        case Phase.RUNNING if around.run is not None:
            return _running(job, around, around.run)
        case Phase.SCHEDULED:
            return f"it starts in {_ahead(record, now)}, as requested"
        case Phase.RETRYING:
            return f"next attempt in {_ahead(record, now)}{_last(record)}"
        case _:
            return _queued(job, now, around)


def _running(job: Job, around: Circumstances, run: Run) -> str:
    attempt = 1 if job.task is None else job.task.attempt
    most = "" if around.timeout_s is None else f" of at most {_span(around.timeout_s)}"
    ran = f"runs on {run.worker} for {_span(run.for_s)}{most}"
    return f"attempt {attempt} of {around.attempts} {ran}, last sign {run.heard_s:.1f} s ago"


def _queued(job: Job, now: datetime, around: Circumstances) -> str:
    known = _unseen(around) or _unserved(job, around) or _not_published(job, around)
    if known is not None:
        return known
    since = _span((now - job.created_at).total_seconds())
    if job.task is None and around.kind == SLEEP and around.free_slots is not None:
        # Workers name those that have slept for a second, and not all where there are thousands.
        if around.free_slots == 0:
            return f"for {since} it has slept on a worker, or waited for a place: all are taken{_others(around)}"
        return f"for {since} it has slept on a worker, or has been on its way to one"
    if around.free_slots == 0:
        return f"it has waited for {since}: all places for {around.kind} are taken{_others(around)}"
    return f"it has been waiting for a free place for {since}{_others(around)}"


def _unseen(around: Circumstances) -> str | None:
    """What keeps this api-server from seeing how the job goes on, or its worker from saying so."""
    if around.broker_unreachable_s is not None:
        # Then nothing is heard of workers either.
        away = _span(around.broker_unreachable_s)
        return f"the broker has been unreachable for {away}; the job goes on when it is back"
    if around.silence is not None:
        return _silent(around.silence)
    if around.stopped is not None:
        worker, ago = around.stopped.worker, _span(around.stopped.for_s)
        return f"its run on {worker} ended {ago} ago; the ending has not arrived yet"
    return None


def _unserved(job: Job, around: Circumstances) -> str | None:
    if around.workers or job.task is None:
        return None
    left = "none was seen lately" if around.left_s is None else f"the last one left {_span(around.left_s)} ago"
    return f"no worker serves {around.kind}; {left}"


def _not_published(job: Job, around: Circumstances) -> str | None:
    if not job.dispatches or around.being_published:
        return "it is about to be handed to the broker"
    if around.owner_gone_s is not None:
        gone = _span(around.owner_gone_s)
        return f"the api-server that took it has been gone for {gone}; another one hands it over soon"
    return None


def _silent(silence: Silence) -> str:
    begins = f"in about {_span(silence.elsewhere_in_s)}" if silence.elsewhere_in_s > 0 else "at any moment"
    return f"{silence.worker} ran it and has been silent for {_span(silence.for_s)}; another worker begins it {begins}"


def _others(around: Circumstances) -> str:
    if around.unfinished is None or around.unfinished < MANY:
        return ""
    return f"; about {around.unfinished:,} jobs of all kinds are unfinished"


def _outcome(record: JobRecord) -> str:
    job, failure = record.job, failure_of(record)
    when = ""
    if record.ended_at is not None:
        took_s = (record.ended_at - job.created_at).total_seconds()
        took = f"{took_s * 1000:.0f} ms" if 0 <= took_s < 1 else f"{took_s:.1f} s"
        when = f" {took} after it was accepted"
    if failure is None:
        return f"it was {job.status.value}{when}" if job.status is Status.CANCELLED else f"it {job.status.value}{when}"
    return f"it {job.status.value}{when}: {named(failure)}"


def _last(record: JobRecord) -> str:
    failure = failure_of(record)
    return "" if failure is None else f"; the last one ended with {named(failure)}"


def named(failure: Failure) -> str:
    """Say in a few words how an attempt failed."""
    text = failure.message.partition("\n")[0][:200]
    return ": ".join(part for part in (failure.type or failure.reason.value, text) if part)


def _ahead(record: JobRecord, now: datetime) -> str:
    due = due_at(record, now)
    return _span(0 if due is None else (due - now).total_seconds())


def _ago(now: datetime, at: datetime | None) -> str:
    return "just now" if at is None else f"{_span((now - at).total_seconds())} ago"


def _span(seconds: float) -> str:
    """Write a time as people say it."""
    seconds = max(seconds, 0)
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
