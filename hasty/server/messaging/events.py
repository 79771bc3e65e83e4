"""The events of a job, as they travel: `{"subject": ..., "job": {...}}`, the same for all subjects.

This is the wire's dialect of `hasty.jobs`. For the root kind, a turn travels as `job:created`, and events are exactly
the original's. For any other kind, it travels as `work.<kind>`, and an event has more members: `turn`, the number of
the turn if it is not the first; `task`, what the handler is to do; `report`, what is recorded of the handler's turn.
With `again`, which the root kind's may have as well, an earlier dispatch of the turn under this number got no answer.
An ending travels on the subject of its status, and `job:again` if it is not final. `job:cancel` asks that a job's turn
be cancelled; it looks like a turn.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from hasty.jobs import (
    JOB_ID,
    KIND_NAME,
    OBJECT_ID_MAX,
    Ending,
    Job,
    Kind,
    Report,
    Status,
    Task,
    Turn,
    object_id_problem,
    whole,
)
from hasty.values import quick_dataclass


class Subject(StrEnum):
    """Where an event is published; the turns of kinds have subjects of their own, see `work_subject`."""

    CREATED = "job:created"
    FINISHED = "job:finished"
    FAILED = "job:failed"
    CANCELLED = "job:cancelled"
    AGAIN = "job:again"
    CANCEL = "job:cancel"
    KIND = "kind:announced"


WORK_PREFIX: Final = "work."
"""Before the kind's name, where turns of a kind are published."""

ENDING_SUBJECTS: Final = {
    Status.FINISHED: Subject.FINISHED,
    Status.FAILED: Subject.FAILED,
    Status.CANCELLED: Subject.CANCELLED,
    Status.PROCESSING: Subject.AGAIN,
}
"""Where an ending with each status is published."""

_ENDINGS: Final = {subject.value for subject in ENDING_SUBJECTS.values()}
_STATUS_ON: Final[dict[str, Status]] = {
    **{subject.value: status for status, subject in ENDING_SUBJECTS.items()},
    Subject.CREATED.value: Status.PROCESSING,
    Subject.CANCEL.value: Status.PROCESSING,
}

JobId = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
Seconds = Annotated[int | float, Field(ge=0, le=10**9, allow_inf_nan=False)]


class MalformedMessage(ValueError):
    """A message is not an event of its subject; the text says why, without the message's content."""


@quick_dataclass(frozen=True, slots=True)
class _WireJob:
    """A job as an event carries it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    id: JobId
    job_id: JobId
    object_id: Annotated[str, Field(min_length=1, max_length=OBJECT_ID_MAX)]
    status: str
    timestamp: Annotated[int, Field(ge=0, lt=2**53)]
    sleep_time_used: Seconds


@quick_dataclass(frozen=True, slots=True)
class _WireWorkEvent:
    """An event of a handler's turn; what the root kind's events do not have is optional."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    subject: str
    job: _WireJob
    turn: Annotated[int, Field(ge=1, lt=2**31)] = 1
    task: Task | None = None
    report: Report | None = None
    again: bool = False


@quick_dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out: with a `message_id` the broker drops a second one within its duplicate window."""

    subject: str
    body: bytes
    message_id: str | None = None


# Validators and serializers themselves: the adapter's methods add more than half a microsecond to each call.
_WORK_VALIDATOR: Final = TypeAdapter(_WireWorkEvent).validator
_TASK_TO_JSON: Final = TypeAdapter(Task).serializer.to_json
_REPORT_TO_JSON: Final = TypeAdapter(Report).serializer.to_json
_KIND_ADAPTER: Final = TypeAdapter(Kind)


def work_subject(kind: str) -> str:
    """Return where the turns of a kind are published."""
    return WORK_PREFIX + kind


def dispatch_id(turn: str, number: int) -> str:
    """Return the message id of the dispatch of a turn with this number, which counts from 1."""
    return f"{turn}:{number}"


def dispatch(job: Job, number: int, *, again: bool = False) -> Outgoing:
    """Write a dispatch of a job's turn; its number makes the message id, so the broker drops a repetition.

    One that the broker has forgotten it cannot drop: `again` tells that there may have been one. A job that is to be
    cancelled is dispatched as that.
    """
    turn = replace(job.turn, again=True) if again else job.turn
    subject = Subject.CREATED.value if turn.task is None else work_subject(turn.task.kind)
    if job.cancel_at is not None:
        # The number alone could be that of a dispatch that was no cancellation.
        return _message(Subject.CANCEL.value, turn, Status.PROCESSING, 0, f"{dispatch_id(turn.turn_id, number)}:cancel")
    return _message(subject, turn, Status.PROCESSING, 0, dispatch_id(turn.turn_id, number))


def announcement(ending: Ending) -> Outgoing:
    """Write an ending's event. It has no message id: a repetition must get through, whatever became of the first."""
    subject = ENDING_SUBJECTS[ending.status].value
    return _message(subject, ending.turn, ending.status, whole(ending.sleep_time_used), None, ending.report)


def announced_kind(kind: Kind) -> Outgoing:
    """Write the announcement of a kind that a job-server serves."""
    return Outgoing(Subject.KIND.value, _KIND_ADAPTER.dump_json(kind))


def decode_turn(subject: str, data: bytes) -> Turn:
    """Read a turn that came on `subject`, or the cancellation of one.

    Raises:
        MalformedMessage: when it is not JSON, not an event, an event of another subject, or contradicts itself.
    """
    event = _decode(subject, data)
    if subject.startswith(WORK_PREFIX) and (event.task is None or work_subject(event.task.kind) != subject):
        raise MalformedMessage(f"the event's task is not of the kind of {subject!r}")
    return _turn(event)


def decode_ending(subject: str, data: bytes) -> Ending:
    """Read an ending that came on `subject`.

    Raises:
        MalformedMessage: as `decode_turn`.
    """
    event = _decode(subject, data)
    if event.report is None and event.job.status == Status.PROCESSING:
        raise MalformedMessage("an ending that says again must have a report")
    return Ending(_turn(event), Status(event.job.status), event.job.sleep_time_used, report=event.report)


def decode_kind(data: bytes) -> Kind:
    """Read the announcement of a kind.

    Raises:
        MalformedMessage: when it is not JSON, or not one.
    """
    try:
        kind = _KIND_ADAPTER.validate_json(data)
    except ValidationError as error:
        raise _malformed(error) from None
    if not KIND_NAME.fullmatch(kind.name):
        raise MalformedMessage(f"a kind cannot be named {kind.name[:64]!r}")
    return kind


def _turn(event: _WireWorkEvent) -> Turn:
    return Turn(event.job.job_id, event.job.object_id, event.job.timestamp, event.turn, event.task, event.again)


def _message(
    subject: str,
    turn: Turn,
    status: Status,
    sleep_time_used: float,
    message_id: str | None,
    report: Report | None = None,
) -> Outgoing:
    # Written by hand, which takes two thirds of a serializer's time: of what is not escaped, nothing has to be.
    job_id, task, is_ending = turn.job_id, turn.task, subject in _ENDINGS
    body = (
        f'{{"subject":"{subject}","job":{{"id":"{job_id}","job_id":"{job_id}","object_id":'.encode()
        + to_json(turn.object_id)
        + f',"status":"{status.value}","timestamp":{turn.timestamp},"sleep_time_used":{sleep_time_used}}}'.encode()
    )
    if turn.number != 1:
        body += b',"turn":%d' % turn.number
    if task is not None:
        # Of an ending's, the api-server has the rest.
        task = Task(task.kind, "", task.attempt) if is_ending else task
        body += b',"task":' + _TASK_TO_JSON(task, exclude_defaults=True)
    if report is not None:
        body += b',"report":' + _REPORT_TO_JSON(report, exclude_defaults=True)
    if turn.again and not is_ending:
        body += b',"again":true'
    return Outgoing(subject, body + b"}", message_id)


def _decode(subject: str, data: bytes) -> _WireWorkEvent:
    try:
        event: _WireWorkEvent = _WORK_VALIDATOR.validate_json(data)
    except ValidationError as error:
        raise _malformed(error) from None
    if event.subject != subject:
        raise MalformedMessage(f"the event says {event.subject[:64]!r} but came on {subject!r}")
    if event.job.status != _STATUS_ON.get(subject, Status.PROCESSING):
        raise MalformedMessage(f"a {subject} event cannot have the status {event.job.status[:64]!r}")
    if event.job.id != event.job.job_id:
        raise MalformedMessage("id and job_id differ")
    if problem := object_id_problem(event.job.object_id):
        raise MalformedMessage(problem)
    if event.task is not None and not KIND_NAME.fullmatch(event.task.kind):
        raise MalformedMessage(f"a kind cannot be named {event.task.kind[:64]!r}")
    return event


def _malformed(error: ValidationError) -> MalformedMessage:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the message"
    return MalformedMessage(f"{where}: {first['msg']}")
