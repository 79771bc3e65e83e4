"""What has happened to a job, in order. Pure: no clock, no input or output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from api_server.domain import JobRecord
from api_server.explanation import due_at, named
from api_server.workers import Running
from hasty.jobs import TERMINAL, Report, Status


class Happening(StrEnum):
    """What can happen to a job."""

    CREATED = "created"
    STARTED = "started"
    FAILED = "attempt_failed"
    SNOOZED = "snoozed"
    CANCEL_REQUESTED = "cancel_requested"
    DUE = "due"
    FINISHED = "finished"
    FAILED_FOR_GOOD = "failed"
    CANCELLED = "cancelled"


_OUTCOMES = {
    Status.FINISHED: Happening.FINISHED,
    Status.FAILED: Happening.FAILED_FOR_GOOD,
    Status.CANCELLED: Happening.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened `at` a time, or will: `DUE` may lie ahead. `run` counts the starts of the same turn.

    Times of an attempt are by its worker's clock, all others by the database's.
    """

    at: datetime
    what: Happening
    attempt: int
    run: int | None = None
    worker: str | None = None
    version: str | None = None
    detail: str = ""


def timeline(record: JobRecord, now: datetime, running: Running | None) -> list[Event]:
    """Return what is known to have happened to a job, in order; the latest 25 turns are known.

    The order is that of cause and effect: with clocks that differ, times would show an end before its begin.
    """
    return list(_events(record, now, running))


def _events(record: JobRecord, now: datetime, running: Running | None) -> Iterator[Event]:
    job = record.job
    attempt = job.task.attempt if job.task else 1
    yield Event(job.created_at, Happening.CREATED, 1)
    for past in record.history:
        what = Happening.FAILED if past.report.counts else Happening.SNOOZED
        yield from _turn(past.report, past.attempt, what)
    if record.report is not None and record.report.run:
        yield _at(record.report.started_at, Happening.STARTED, record.report, attempt)
    elif running is not None:
        at = datetime.fromtimestamp(running.started_at, UTC)
        yield Event(at, Happening.STARTED, attempt, running.run, running.worker, running.version)
    if job.cancel_at is not None:
        yield Event(job.cancel_at, Happening.CANCEL_REQUESTED, attempt)
    if job.status in TERMINAL:
        yield from _outcome(record, attempt)
    elif running is None and (due := due_at(record, now)) is not None:
        yield Event(due, Happening.DUE, attempt)


def _turn(report: Report, attempt: int, what: Happening) -> Iterator[Event]:
    if report.run:
        yield _at(report.started_at, Happening.STARTED, report, attempt)
    yield _at(report.ended_at, what, report, attempt, named(report.failure) if report.failure else "")


def _outcome(record: JobRecord, attempt: int) -> Iterator[Event]:
    what, report = _OUTCOMES[record.job.status], record.report
    if record.ended_at is not None:
        detail = named(report.failure) if report and report.failure else ""
        run, worker, version = (None, None, None) if report is None else (report.run, report.worker, report.version)
        yield Event(record.ended_at, what, attempt, run, worker, version, detail)


def _at(seconds: float, what: Happening, report: Report, attempt: int, detail: str = "") -> Event:
    at = datetime.fromtimestamp(seconds, UTC)
    return Event(at, what, attempt, report.run, report.worker, report.version, detail)
