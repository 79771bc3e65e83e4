"""What both services and their users mean by a job. It needs nothing but the standard library.

A job is dispatched as a *turn*, a turn ends with an *ending*, and the ending that is final is the job's *outcome*; an
ending that is not final says *again*, and the job has another turn. Its status moves along `NEXT`:
``processing -> finished``, ``processing -> failed`` and ``processing -> cancelled``.

What a job does is named by its *kind*. A job of the root kind has no `Task`: it is posted with ``POST /``, and its
object id is all that is known of it. Every other job has one, and so does each of its turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Final

from hasty.values import quick_dataclass


class Status(StrEnum):
    """Where a job is in its lifecycle."""

    PROCESSING = "processing"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PROCESSING: frozenset({Status.FINISHED, Status.FAILED, Status.CANCELLED}),
    Status.FINISHED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""The lifecycle of a job: from each status, the statuses it may move to."""

TERMINAL: Final = frozenset(status for status, following in NEXT.items() if not following)

JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What every job id looks like: a UUID in lower case."""

OBJECT_ID_MAX: Final = 256
"""The longest object id, in characters."""

KIND_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What the name of a kind looks like."""

SLEEP: Final = "sleep"
"""The root kind, unless a handler takes its place."""

PLACE_SEPARATOR: Final = "\x1f"
"""Between a kind and a key in what `place_of` gives: ASCII's unit separator."""

INPUT_MAX: Final = 32 * 1024
"""The longest input or output, in bytes of JSON."""

TRACEBACK_MAX: Final = 8 * 1024
"""The longest text of an error, in bytes of UTF-8: the end of a longer one is kept."""

NOTE_MAX: Final = 1024
"""The longest note of a progress, in bytes of UTF-8."""

LABELS_MAX: Final = 8
LABEL_MAX: Final = 64
"""A job has up to `LABELS_MAX` labels of up to `LABEL_MAX` characters each."""

ATTEMPTS_KEPT: Final = 25
"""So many of a job's latest attempts are kept."""

_FORBIDDEN_IN_OBJECT_ID: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Way(StrEnum):
    """In which way a handler runs, which decides the places it needs and how it is stopped."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"
    COMMAND = "command"


class Reason(StrEnum):
    """Why a turn failed."""

    EXCEPTION = "exception"
    FAILED_BY_HANDLER = "failed_by_handler"
    TIMEOUT = "timeout"
    LOST = "lost"
    BAD_OUTPUT = "bad_output"


@quick_dataclass(frozen=True, slots=True)
class Failure:
    """How a turn failed: `type` and `message` are the exception's, where there is one, `traceback` its last 8 KiB."""

    reason: Reason
    type: str = ""
    message: str = ""
    traceback: str = ""


@quick_dataclass(frozen=True, slots=True)
class Kind:
    """What a job-server announces of a handler: schemas are JSON texts, times in seconds.

    `key` is a template over the input, as in ``"{url}"``; a kind without one has None. A job of it gets up to
    `attempts` attempts; the wait before the second one is `first_s`, and doubles up to `most_s`. `version` is that of
    the code.
    """

    name: str
    way: Way
    version: str
    input_schema: str
    output_schema: str
    description: str = ""
    key: str | None = None
    cooldown_s: float = 0
    attempts: int = 1
    first_s: float = 1
    most_s: float = 3600
    timeout_s: float = 3600
    at_most_once: bool = False


@quick_dataclass(frozen=True, slots=True)
class Task:
    """What a handler is to do in a turn: its input is a JSON text.

    `attempt` counts from 1 what the retry policy counts. `attempts` is what the caller asked for, instead of the
    handler's own, if they did. `versions` are those of the kind whose schemas accepted the input when the job was
    posted.
    """

    kind: str
    input: str
    attempt: int = 1
    attempts: int | None = None
    labels: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@quick_dataclass(frozen=True, slots=True)
class Turn:
    """What is dispatched, and ends once: `timestamp` is the job's creation in Unix seconds, `number` counts from 1.

    `object_id` is the job's key, or the job's own id where it has none. `again` says of a dispatch that one before it
    may have arrived, though it has the number of a first one.
    """

    job_id: str
    object_id: str
    timestamp: int
    number: int = 1
    task: Task | None = None
    again: bool = field(default=False, compare=False)

    @property
    def turn_id(self) -> str:
        """What identifies it: the job's id for the first turn."""
        return self.job_id if self.number == 1 else turn_id(self.job_id, self.number)


@quick_dataclass(frozen=True, slots=True)
class Report:
    """What is recorded of a handler's turn besides its status; times in Unix seconds by the worker's clock.

    `output` is a JSON text. For an ending that says again, `delay_s` is how long after it the next turn is due, and
    `counts` whether it has spent an attempt. `run` counts how often the turn was started.
    """

    worker: str
    version: str
    started_at: float
    ended_at: float
    run: int = 1
    output: str | None = None
    failure: Failure | None = None
    delay_s: float = 0
    counts: bool = True


@quick_dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended: `status` is terminal, or `PROCESSING`, which says again. `sleep_time_used` is in seconds.

    `attempt` counts the deliveries of the turn up to the one that was run; 0 where it is not known.
    """

    turn: Turn
    status: Status
    sleep_time_used: float
    attempt: int = 0
    report: Report | None = None

    @property
    def job_id(self) -> str:
        """The job whose turn ended."""
        return self.turn.job_id

    @property
    def is_final(self) -> bool:
        """Whether it is the job's outcome."""
        return self.status in TERMINAL


@quick_dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored: `run` counts the object's jobs from 1, `sleep_time_used` is in seconds.

    For a job of the root kind, `object_id` is what was posted; for any other, it is what `place_of` gives.
    `dispatches` counts how often its present turn was published; the first time is counted in advance, see `Lease`.
    `turn_number` counts the turns from 1, `unanswered_turn` is one whose first publish got no answer. A job that is to
    be cancelled says since when in `cancel_at`. `retry_of` is the job that this one repeats, `batch` the batch it was
    posted with.
    """

    job_id: str
    object_id: str
    run: int
    created_at: datetime
    status: Status = Status.PROCESSING
    sleep_time_used: float = 0
    dispatches: int = 0
    turn_number: int = 1
    cancel_at: datetime | None = None
    task: Task | None = None
    retry_of: str | None = None
    batch: str | None = None
    unanswered_turn: int | None = None

    @property
    def is_root(self) -> bool:
        """Whether it is of the root kind."""
        return PLACE_SEPARATOR not in self.object_id

    @property
    def key(self) -> str | None:
        """The key whose place it takes: the object id of the root kind; None for a job without one."""
        return key_of_place(self.object_id)

    @property
    def turn(self) -> Turn:
        """What is dispatched of it."""
        named = self.key or self.job_id
        return Turn(self.job_id, named, int(self.created_at.timestamp()), self.turn_number, self.task)


@quick_dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be processed: `key` is unique, `data` cut at 64 KiB, `reason` one line."""

    key: str
    subject: str
    data: bytes
    reason: str


def place_of(kind: str, key: str | None, job_id: str) -> str:
    """Return which place a job takes, for kinds other than the root kind: one job at a time has it.

    No object id of the root kind looks like one, because it has no control characters.
    """
    return f"{kind}{PLACE_SEPARATOR}{key}" if key is not None else f"{PLACE_SEPARATOR}{job_id}"


def key_of_place(place: str) -> str | None:
    """Return the key in what `place_of` gives, or the object id that a job of the root kind has as its place."""
    kind, separator, key = place.rpartition(PLACE_SEPARATOR)
    return key if kind or not separator else None


def turn_id(job_id: str, number: int) -> str:
    """Return what identifies a job's turn: the job's id for the first one, and with its number for the others."""
    return job_id if number == 1 else f"{job_id}:{number}"


def can_move(current: Status, to: Status) -> bool:
    """Whether a job may move from one status to another."""
    return to in NEXT[current]


def whole(seconds: float) -> int | float:
    """Write whole seconds without a fraction, as the original does."""
    return int(seconds) if seconds == int(seconds) else seconds


def object_id_problem(object_id: str) -> str | None:
    """Say what is wrong with an object id, or None: 1 to 256 characters, no control characters, no surrogates."""
    if not object_id:
        return "object_id must not be empty"
    if len(object_id) > OBJECT_ID_MAX:
        return f"object_id must have at most {OBJECT_ID_MAX} characters, this one has {len(object_id)}"
    if _FORBIDDEN_IN_OBJECT_ID.search(object_id):
        return "object_id must not contain control characters or lone surrogates"
    return None
