"""What the client gives: jobs, kinds, workers and the overview, as `/v1` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal, TypeVar, get_args

from hasty.client.errors import JobCancelled, JobFailed, JobNotEnded, UnexpectedAnswer

Status = Literal["processing", "finished", "failed", "cancelled"]
Phase = Literal["scheduled", "queued", "running", "retrying", "cancelling"]

STATUSES: Final[tuple[str, ...]] = get_args(Status)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobError:
    """How the latest attempt that failed did: `reason` is one of docs/handlers.md."""

    reason: str
    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running handler says it is: `done` from 0 to 1."""

    done: float
    note: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as it was when it was read.

    `status` is the truth; `phase`, `progress` and `why` are news that may lag behind. Times are in UTC. `raw` is the
    whole answer, with what newer servers may say besides.
    """

    id: str
    kind: str
    key: str | None
    status: Status
    phase: Phase | None
    attempt: int
    attempts: int
    input: Any
    output: Any
    error: JobError | None
    progress: Progress | None
    created_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    worker: str | None
    version: str | None
    labels: tuple[str, ...]
    batch: str | None
    retry_of: str | None
    revision: int
    why: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether it has its outcome, which never changes."""
        return self.status != "processing"

    def result(self) -> Any:
        """Return the output.

        Raises:
            JobFailed: when it failed.
            JobCancelled: when it was cancelled.
            JobNotEnded: when it has not ended yet.
        """
        match self.status:
            case "finished":
                return self.output
            case "failed":
                error = self.error
                raise JobFailed(self, f"failed: {error.reason}: {error.message}" if error else "failed")
            case "cancelled":
                raise JobCancelled(self, "was cancelled")
            case _:
                raise JobNotEnded(self, f"has not ended: {self.why}")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made: as `kind` and `input` say, after `delay_s` seconds.

    `attempts` takes the place of the kind's own number; up to 8 `labels` are there to find the job by.
    """

    kind: str
    input: Mapping[str, Any]
    delay_s: float = 0
    attempts: int | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of jobs, and who serves it; schemas are JSON Schema."""

    name: str
    description: str
    way: str
    version: str
    versions: tuple[str, ...]
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    key: str | None
    cooldown_s: float
    attempts: int
    first_s: float
    most_s: float
    timeout_s: float | None
    at_most_once: bool
    workers: tuple[str, ...]
    free_slots: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A job-server; `kinds` maps those it serves to their versions, `free_slots` to how many more it may take.

    `running` counts jobs of handlers, `sleeping` those of the built-in kind beside handlers, up to 1,000.
    """

    worker: str
    silent: bool
    last_sign_s: float
    kinds: Mapping[str, str]
    free_slots: Mapping[str, int]
    held: int
    running: int
    sleeping: int


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Seconds: half, 95 % and 99 % of the jobs took at most so long."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Overview:
    """How things are: what has become of the jobs that were created in the `span_s` seconds before `at`.

    `ended_per_s` counts all jobs that ended, however old; None where that is not known.
    """

    at: datetime
    span_s: float
    sampled: bool
    accepted: int
    processing: int
    finished: int
    failed: int
    cancelled: int
    to_start_s: Quantiles | None
    to_end_s: Quantiles | None
    unfinished: int
    running: int
    free_slots: int
    workers: int
    silent_workers: int
    verdict: str
    ended_per_s: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, or will: `due` may lie ahead."""

    at: datetime
    event: str
    attempt: int
    run: int | None
    worker: str | None
    version: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that the api-servers could not process; `data` is its beginning, as text."""

    id: str
    at: datetime
    subject: str
    reason: str
    data: str
    bytes: int


_TIMES: Final = frozenset({"at", "created_at", "due_at", "started_at", "ended_at"})
_NESTED: Final[Mapping[str, type]] = {
    "error": JobError,
    "progress": Progress,
    "to_start_s": Quantiles,
    "to_end_s": Quantiles,
}
_GIVEN: Final = frozenset({"input", "output"})
"""What is the users' own, and stays as it is."""


def decoded(cls: type[T], document: Any) -> T:
    """Read one of the classes above out of JSON; members that it does not have are left out.

    Raises:
        UnexpectedAnswer: when the document is none of Hasty's.
    """
    try:
        names = [each.name for each in fields(cls)]  # type: ignore[arg-type]  # all of them are dataclasses
        values = {name: _value(name, document[name]) for name in names if name != "raw"}
        if "raw" in names:
            values["raw"] = document
        return cls(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"the answer is none of Hasty's ({error!r}): is the URL right?") from None


def _value(name: str, value: Any) -> Any:
    if value is None or name in _GIVEN:
        return value
    if name in _TIMES:
        return datetime.fromisoformat(value)
    if name in _NESTED:
        return decoded(_NESTED[name], value)
    return tuple(value) if isinstance(value, list) else value
