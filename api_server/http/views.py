"""What callers of `/v1` see: jobs, kinds and workers, as JSON."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, Field
from pydantic_core import PydanticSerializationError, from_json, to_json

from api_server.domain import JobRecord
from api_server.explanation import (
    Circumstances,
    Run,
    Silence,
    Stopped,
    due_at,
    failure_of,
    phase_of,
    revision_of,
    why,
)
from api_server.http.browsers import Ui
from api_server.kinds import Kinds
from api_server.overview import Overview, verdict
from api_server.submission import root_version
from api_server.timeline import Event, timeline
from api_server.workers import Running, Worker, Workers
from hasty.jobs import Failure, Kind, Report

_UTC: Final = "+00:00"

Time = str
"""RFC 3339 with milliseconds, in UTC."""


class ErrorView(BaseModel):
    """How an attempt failed."""

    reason: Literal["exception", "failed_by_handler", "timeout", "lost", "bad_output"]
    type: str
    message: str
    traceback: str


class ProgressView(BaseModel):
    """How far a running handler says it is: `done` from 0 to 1."""

    done: float
    note: str


class JobView(BaseModel):
    """A job. `status` is the truth; `phase`, `progress` and `why` are news that may lag behind or be lost.

    `error` is that of the latest attempt that failed, if the job has not finished.
    """

    id: str
    kind: str
    key: str | None
    status: Literal["processing", "finished", "failed", "cancelled"]
    phase: Literal["scheduled", "queued", "running", "retrying", "cancelling"] | None
    attempt: int
    attempts: int
    input: Any
    output: Any
    error: ErrorView | None
    progress: ProgressView | None
    created_at: Time = Field(json_schema_extra={"format": "date-time"})
    due_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    worker: str | None
    version: str | None
    labels: list[str]
    batch: str | None
    retry_of: str | None
    revision: int
    why: str


class KindView(BaseModel):
    """A kind of job, as the version describes it that counts most; schemas are JSON Schema."""

    name: str
    description: str
    way: Literal["async", "thread", "process", "command"]
    version: str
    versions: list[str]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    key: str | None
    cooldown_s: float
    attempts: int
    first_s: float
    most_s: float
    timeout_s: float | None
    at_most_once: bool
    workers: list[str]
    free_slots: int


class KindList(BaseModel):
    """All known kinds, by name."""

    data: list[KindView]


class WorkerView(BaseModel):
    """A job-server that was heard of in the last minute; it is `silent` after five seconds without a sign.

    `free_slots` has each kind's share of the `free_places`. `elsewhere_in_s`: in how many seconds other workers begin
    the jobs of a silent one; null while it is heard. `running` is how many of its places are taken. Where it has
    handlers, jobs of the built-in kind take none of these: `sleeping` counts them, up to 1,000, after a second each.
    """

    worker: str
    silent: bool
    last_sign_s: float
    elsewhere_in_s: float | None
    kinds: dict[str, str]
    free_slots: dict[str, int]
    free_places: int
    held: int
    running: int
    sleeping: int


class WorkerList(BaseModel):
    """All workers, by name."""

    data: list[WorkerView]


@dataclass(frozen=True, slots=True)
class News:
    """What an api-server knows besides its database and its workers, asked when a job is shown.

    `unfinished` counts all jobs that have not ended, as of late; the others are described at `Circumstances`.
    """

    ack_wait_s: float
    unfinished: Callable[[], int | None]
    broker_unreachable_s: Callable[[], float | None]
    being_published: Callable[[str], bool]
    owner_gone_s: Callable[[str], float | None]


class Views:
    """Shows what is known. `now` gives the database's time, `root_cooldown_s` is the root kind's.

    `ui` is what the dashboard may do.
    """

    def __init__(
        self,
        kinds: Kinds,
        workers: Workers,
        *,
        now: Callable[[], datetime],
        root_kind: str,
        root_cooldown_s: float,
        news: News,
        ui: Ui = "read",
    ) -> None:
        self._kinds = kinds
        self._workers = workers
        self._now = now
        self.root_kind: Final = root_kind
        self._root_cooldown_s = root_cooldown_s
        self._news = news
        self._ui = ui

    def job(self, record: JobRecord) -> bytes:
        """Show a job."""
        job, task = record.job, record.job.task
        now = self._now()
        name = self.root_kind if job.is_root or task is None else task.kind
        versions = self._kinds.versions(name)
        known = versions[0] if versions else None
        running = None if record.ended_at is not None else self._running(record)
        attempts = (task and task.attempts) or (known.attempts if known else 1)
        report = record.report
        view = {
            "id": job.job_id,
            "kind": name,
            "key": job.key,
            "status": job.status.value,
            "phase": phase_of(record, now, running=running is not None),
            "attempt": task.attempt if task else 1,
            "attempts": attempts,
            "error": _error(failure_of(record)),
            "progress": _progress(running),
            "created_at": time_text(job.created_at),
            "due_at": time_text(due_at(record, now)),
            "started_at": _seconds_text(running or report),
            "ended_at": time_text(record.ended_at),
            "worker": running.worker if running else report.worker if report else None,
            "version": running.version if running else report.version if report else None,
            "labels": list(task.labels) if task else [],
            "batch": job.batch,
            "retry_of": job.retry_of,
            "revision": revision_of(job),
            "why": why(record, now, self._circumstances(record, name, attempts, known, running, now)),
        }
        # These are JSON already.
        given = _dumped({"object_id": job.object_id}) if job.is_root or task is None else task.input.encode()
        return b'%b,"input":%b,"output":%b}' % (_dumped(view)[:-1], given, _json_or_null(report).encode())

    def history(self, record: JobRecord) -> tuple[list[Event], str]:
        """Return what has happened to a job, and why it is where it is."""
        running = None if record.ended_at is not None else self._running(record)
        said: str = json.loads(self.job(record))["why"]
        return timeline(record, self._now(), running), said

    def fleet(self, overview: Overview) -> dict[str, Any]:
        """Sum up what the workers say, and give the verdict."""
        workers = self._workers.all()
        awake = [worker for worker in workers if not self._workers.is_silent(worker)]
        return {
            "running": sum(worker.taken for worker in awake),
            "free_slots": sum(worker.free for worker in awake),
            "workers": len(awake),
            "silent_workers": len(workers) - len(awake),
            "ui": self._ui,
            "verdict": verdict(overview, len(awake), [each.name for each in workers if self._workers.is_silent(each)]),
        }

    def kinds(self) -> bytes:
        """Show all known kinds, and the root kind among them."""
        names = sorted({*self._kinds.names(), self.root_kind})
        return _dumped({"data": [self._kind(name) for name in names]})

    def workers(self) -> bytes:
        """Show all workers."""
        return _dumped({"data": [self._worker(worker) for worker in self._workers.all()]})

    def _running(self, record: JobRecord) -> Running | None:
        running = self._workers.running(record.job.job_id)
        return running if running is not None and running.turn == record.job.turn_number else None

    def _circumstances(
        self, record: JobRecord, name: str, attempts: int, known: Kind | None, running: Running | None, now: datetime
    ) -> Circumstances:
        if record.ended_at is not None:
            # It goes on no more, so nothing has to be known of workers.
            return Circumstances(name, attempts, None, None, 0, None)
        timeout_s = known.timeout_s if known else None
        serving = self._workers.serving(name)
        left_s = None if serving else self._workers.left_s(name)
        if running is not None:
            run = Run(running.worker, max(now.timestamp() - running.started_at, 0), running.heard_s)
            return Circumstances(name, attempts, timeout_s, run, len(serving), left_s)
        job_id = record.job.job_id
        silent, stopped = self._workers.silent_on(job_id), self._workers.stopped_on(job_id)
        around = Circumstances(
            *(name, attempts, timeout_s, None, len(serving), left_s),
            broker_unreachable_s=self._news.broker_unreachable_s(),
            silence=None if silent is None else Silence(*silent, max(self._news.ack_wait_s - silent[1], 0)),
            stopped=None if stopped is None else Stopped(*stopped),
            being_published=self._news.being_published(job_id),
        )
        if around.being_published:
            # The others do not count then, and the answer to every POST shows such a job.
            return around
        return replace(
            around,
            free_slots=sum(worker.slots.get(name, 0) for worker in serving) if serving else None,
            unfinished=self._news.unfinished(),
            owner_gone_s=self._news.owner_gone_s(record.owner),
        )

    def _kind(self, name: str) -> dict[str, Any]:
        versions = self._kinds.versions(name)
        root = root_version()
        kind = versions[0] if versions else root
        is_root = name == self.root_kind
        serving = self._workers.serving(name)
        return {
            "name": name,
            "description": kind.description,
            "way": kind.way.value,
            "version": kind.version,
            "versions": [version.version for version in versions],
            "input_schema": json.loads((root if is_root else kind).input_schema),
            "output_schema": json.loads(kind.output_schema),
            "key": root.key if is_root else kind.key,
            "cooldown_s": self._root_cooldown_s if is_root else kind.cooldown_s,
            "attempts": kind.attempts,
            "first_s": kind.first_s,
            "most_s": kind.most_s,
            "timeout_s": kind.timeout_s if versions else None,
            "at_most_once": kind.at_most_once,
            "workers": [worker.name for worker in serving],
            "free_slots": sum(worker.slots.get(name, 0) for worker in serving),
        }

    def _worker(self, worker: Worker) -> dict[str, Any]:
        silent, silent_s = self._workers.is_silent(worker), self._workers.silent_s(worker)
        return {
            "worker": worker.name,
            "silent": silent,
            "last_sign_s": round(silent_s, 1),
            "elsewhere_in_s": round(max(self._news.ack_wait_s - silent_s, 0), 1) if silent else None,
            "kinds": worker.kinds,
            "free_slots": worker.slots,
            "free_places": worker.free,
            "held": worker.held,
            "running": worker.taken,
            "sleeping": worker.sleeping,
        }


def time_text(at: datetime | None) -> str | None:
    """Write a time as RFC 3339 has it, with milliseconds, in UTC."""
    if at is None:
        return None
    text = at.isoformat(timespec="milliseconds")
    # Nearly all are in UTC already, which is quicker to see than to bring about.
    if not text.endswith(_UTC):
        text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix(_UTC) + "Z"


def _seconds_text(ran: Running | Report | None) -> str | None:
    # A turn that was cancelled before it began has no start.
    return None if ran is None or ran.run == 0 else time_text(datetime.fromtimestamp(ran.started_at, UTC))


def _error(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {
        "reason": failure.reason.value,
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
    }


def _progress(running: Running | None) -> dict[str, Any] | None:
    if running is None or running.done is None:
        return None
    return {"done": running.done, "note": running.note or ""}


def _json_or_null(report: Report | None) -> str:
    """Return a job's output as it may stand in an answer: a worker may have sent anything."""
    if report is None or report.output is None:
        return "null"
    try:
        from_json(report.output, allow_inf_nan=False)
    except ValueError:
        return "null"
    return report.output


def _dumped(value: object) -> bytes:
    """Write JSON; what cannot be encoded is shown as a question mark."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
