"""What callers of `/v1` see of many jobs: pages, timelines, batches, dead letters and the overview, as JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api_server.domain import JobRecord
from api_server.http.browsers import Ui
from api_server.http.problems import Problem
from api_server.http.views import JobView, Time, time_text
from api_server.listing import Page
from api_server.overview import Overview
from api_server.timeline import Event
from hasty.jobs import DeadLetter, Status

DATA_SHOWN: int = 1_000
"""So many bytes of a dead letter are shown."""

Show = Callable[[JobRecord], bytes]


class JobPage(BaseModel):
    """Jobs, newest first. `next` is the value of `after` that goes on, null at the end of the list.

    `searched_back_to` is set where the search stopped for the number of jobs it had to look at: jobs older than that
    were not looked at yet, and `next` goes on there.
    """

    data: list[JobView]
    next: str | None
    searched_back_to: Time | None


class EventView(BaseModel):
    """Something that happened to a job, or will: `due` may lie ahead. `run` counts the starts of the same turn."""

    at: Time = Field(json_schema_extra={"format": "date-time"})
    event: Literal[
        "created",
        "started",
        "attempt_failed",
        "snoozed",
        "cancel_requested",
        "due",
        "finished",
        "failed",
        "cancelled",
    ]
    attempt: int
    run: int | None
    worker: str | None
    version: str | None
    detail: str


class TimelineView(BaseModel):
    """What has happened to a job, in order, and why it is where it is."""

    data: list[EventView]
    why: str


class MadeView(BaseModel):
    """A member of a batch that became a job; status 200 for one that an earlier request has made."""

    status: Literal[200, 201]
    job: JobView


class RefusedView(BaseModel):
    """A member of a batch that became none."""

    status: int
    problem: Problem


class NewBatchView(BaseModel):
    """A batch: what became of its members, in their order."""

    id: str
    results: list[MadeView | RefusedView]


class BatchView(BaseModel):
    """How many of a batch's jobs have each status."""

    id: str
    counts: dict[Literal["processing", "finished", "failed", "cancelled"], int]


class DeadLetterView(BaseModel):
    """A message that the api-servers could not process. `data` is its beginning, as text."""

    id: str
    at: Time
    subject: str
    reason: str
    data: str
    bytes: int


class DeadLetterList(BaseModel):
    """The latest dead letters, newest first."""

    data: list[DeadLetterView]


class QuantilesView(BaseModel):
    """Seconds: half, 95 % and 99 % of the jobs took at most so long."""

    p50: float
    p95: float
    p99: float


class OverviewView(BaseModel):
    """The jobs that were created in the `span_s` seconds before `at`, by what has become of them.

    `accepted` is the sum of the counts by status. `unfinished` counts all jobs that have not ended, however old, up to
    10,000. `running`, `free_slots` and `workers` are what the workers say. `seconds` has a pair for each second of
    the span, the oldest first: how many jobs were accepted in it, and how many of these jobs ended in it; endings of
    jobs that are older than the span are not counted. `ended_per_s` counts all that ended, over up to that span; null
    while it is not known. `ui` is what the dashboard may do.
    """

    at: Time
    span_s: float
    sampled: bool
    accepted: int
    processing: int
    finished: int
    failed: int
    cancelled: int
    to_start_s: QuantilesView | None
    to_end_s: QuantilesView | None
    unfinished: int
    running: int
    free_slots: int
    workers: int
    silent_workers: int
    seconds: list[tuple[int, int]]
    ended_per_s: float | None
    ui: Ui
    verdict: str


def page(shown: Page, show: Show) -> bytes:
    """Show a page."""
    tail = {
        "next": None if shown.next is None else str(shown.next),
        "searched_back_to": time_text(shown.searched_back_to),
    }
    return b'{"data":[%b],%b' % (b",".join(show(record) for record in shown.records), dumped(tail)[1:])


def timeline(events: Sequence[Event], why: str) -> bytes:
    """Show a timeline."""
    rows = [
        {
            "at": time_text(event.at),
            "event": event.what.value,
            "attempt": event.attempt,
            "run": event.run,
            "worker": event.worker,
            "version": event.version,
            "detail": event.detail,
        }
        for event in events
    ]
    return dumped({"data": rows, "why": why})


def batch(batch_id: str, results: Sequence[tuple[int, bytes]]) -> bytes:
    """Show a new batch: for each member its status and the job or the problem, as JSON."""
    members = (
        b'{"status":%d,"%b":%b}' % (status, b"job" if status < 300 else b"problem", body)  # noqa: PLR2004 - HTTP's
        for status, body in results
    )
    return b'{"id":"%b","results":[%b]}' % (batch_id.encode(), b",".join(members))


def counts(batch_id: str, counted: Mapping[Status, int]) -> bytes:
    """Show how far a batch is."""
    return dumped({"id": batch_id, "counts": {status.value: count for status, count in counted.items()}})


def dead_letters(letters: Sequence[tuple[datetime, DeadLetter]]) -> bytes:
    """Show dead letters."""
    rows = [
        {
            "id": letter.key,
            "at": time_text(at),
            "subject": letter.subject,
            "reason": letter.reason,
            "data": letter.data[:DATA_SHOWN].decode("utf-8", "replace"),
            "bytes": len(letter.data),
        }
        for at, letter in letters
    ]
    return dumped({"data": rows})


def overview(shown: Overview, workers: Mapping[str, Any]) -> bytes:
    """Show the overview, with what the workers say."""
    view = {
        "at": time_text(shown.at),
        "span_s": shown.span_s,
        "sampled": shown.sampled,
        "accepted": shown.accepted,
        **{status.value: count for status, count in shown.statuses.items()},
        "to_start_s": None if shown.to_start is None else asdict(shown.to_start),
        "to_end_s": None if shown.to_end is None else asdict(shown.to_end),
        "unfinished": shown.unfinished,
        "seconds": shown.seconds,
        "ended_per_s": shown.ended_per_s,
        **workers,
    }
    return dumped(view)


def dumped(value: object) -> bytes:
    """Write JSON; what cannot be encoded is shown as a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
