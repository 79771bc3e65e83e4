"""The events of a job, as they travel: `{"subject": ..., "job": {...}}`, the same for all three subjects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError


class Subject(StrEnum):
    """Where an event is published."""

    CREATED = "job:created"
    FINISHED = "job:finished"
    CANCELLED = "job:cancelled"


STATUS_OF: Final = {Subject.CREATED: "processing", Subject.FINISHED: "finished", Subject.CANCELLED: "cancelled"}
"""The status a job has in an event of each subject."""

OBJECT_ID_MAX: Final = 256
"""The longest object id, in characters."""

_FORBIDDEN_IN_OBJECT_ID: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What every job id looks like: a UUID in lower case."""

JobId = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
Seconds = Annotated[int | float, Field(ge=0, le=10**9, allow_inf_nan=False)]


class NotUnderstood(ValueError):
    """A message is no event of the subject it came on; the text says why, without the message's content."""


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as an event tells it: `timestamp` is its creation in Unix seconds, `sleep_time_used` in seconds.

    It is checked where it comes in as JSON, in `decode`, not where this process makes it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    id: JobId
    job_id: JobId
    object_id: Annotated[str, Field(min_length=1, max_length=OBJECT_ID_MAX)]
    status: str
    timestamp: Annotated[int, Field(ge=0, lt=2**53)]
    sleep_time_used: Seconds


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What is published when a job was created, finished or cancelled."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    subject: str
    job: JobFacts


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out: with a `message_id` the broker drops a second one within its duplicate window."""

    subject: str
    body: bytes
    message_id: str | None = None


_ADAPTER: Final = TypeAdapter(JobEvent)


def object_id_problem(object_id: str) -> str | None:
    """Say what is wrong with an object id, or None: 1 to 256 characters, no control characters, no surrogates."""
    if not object_id:
        return "object_id must not be empty"
    if len(object_id) > OBJECT_ID_MAX:
        return f"object_id must have at most {OBJECT_ID_MAX} characters, this one has {len(object_id)}"
    if _FORBIDDEN_IN_OBJECT_ID.search(object_id):
        return "object_id must not contain control characters or lone surrogates"
    return None


def encode(subject: Subject, job: JobFacts) -> bytes:
    """Write an event as the JSON that travels."""
    return _ADAPTER.dump_json(JobEvent(subject=subject, job=job))


def decode(subject: str, data: bytes) -> JobFacts:
    """Read an event that came on `subject`.

    Raises:
        NotUnderstood: when it is no JSON, no event, an event of another subject, or contradicts itself.
    """
    try:
        event = _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise NotUnderstood(f"{where}: {first['msg']}") from None
    if event.subject != subject:
        raise NotUnderstood(f"the event says {event.subject[:64]!r} but came on {subject!r}")
    if event.job.status != STATUS_OF[Subject(subject)]:
        raise NotUnderstood(f"a {subject} event cannot have the status {event.job.status[:64]!r}")
    if event.job.id != event.job.job_id:
        raise NotUnderstood("id and job_id differ")
    if problem := object_id_problem(event.job.object_id):
        raise NotUnderstood(problem)
    return event.job
