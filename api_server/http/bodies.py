"""What callers of `/v1` send: bodies, from bytes to values."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from api_server.batches import BATCH_MAX
from api_server.errors import BadInput, InputProblem, InputTooLarge, InvalidRequest
from api_server.schemas import pointer
from api_server.submission import Request
from hasty.jobs import INPUT_MAX, KIND_NAME, LABEL_MAX, LABELS_MAX

BATCH_BODY_MAX: Final = 1024 * 1024
"""The longest body of a batch, in bytes."""

DELAY_MAX_S: Final = 30 * 24 * 3600
"""The longest delay of a job: 30 days."""

POINTER_MAX: Final = 200
ATTEMPTS_MAX: Final = 1_000
DIGITS_MAX: Final = 300
"""A number with more digits is beyond what a floating point number can hold."""

_SUSPICIOUS: Final = re.compile(rb"\\u0000|[0-9]{%d}" % DIGITS_MAX)
"""What is in every body that holds a NUL or a long integer, and in few others."""

Label = Annotated[str, Field(min_length=1, max_length=LABEL_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


def _whole(value: object) -> object:
    """Take 3.0 for 3, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class NewJob(BaseModel):
    """A job to be made: it starts after `delay_s` seconds; `attempts` takes the place of the kind's own number."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Annotated[str, Field(pattern=f"^{KIND_NAME.pattern}$")]
    input: Any
    delay_s: Annotated[float, Field(ge=0, le=DELAY_MAX_S, allow_inf_nan=False)] = 0
    attempts: Annotated[int | None, Field(ge=1, le=ATTEMPTS_MAX), BeforeValidator(_whole)] = None
    labels: Annotated[list[Label], Field(max_length=LABELS_MAX)] = []


class NewBatch(BaseModel):
    """Jobs to be made together."""

    model_config = ConfigDict(strict=True, extra="forbid")

    jobs: Annotated[list[NewJob], Field(min_length=1, max_length=BATCH_MAX)]


def new_job(body: bytes, idempotency_key: str | None) -> Request:
    """Read the body of `POST /v1/jobs`.

    Raises:
        InvalidRequest: when it is not JSON, or not a job.
        BadInput: when the input holds what no handler could get.
        InputTooLarge: when the input is too long.
    """
    job = _job(_json(body))
    return _request(
        job,
        suspicious=_SUSPICIOUS.search(body) is not None,
        idempotency=None if idempotency_key is None else (idempotency_key, hash_of(body)),
    )


def new_batch(body: bytes) -> list[Request | Exception]:
    """Read the body of `POST /v1/batches`: for each member a request, or what is wrong with it.

    Raises:
        InvalidRequest: when it is not JSON, or not a batch.
    """
    value = _json(body)
    members = value.get("jobs") if isinstance(value, dict) else None
    if not isinstance(members, list) or value != {"jobs": members}:
        raise InvalidRequest(
            'the body must be a JSON object such as {"jobs": [{"kind": "greet", "input": {}}]}', pointer=""
        )
    if not 1 <= len(members) <= BATCH_MAX:
        raise InvalidRequest(f"jobs: there must be 1 to {BATCH_MAX}, and are {len(members)}", pointer="/jobs")
    suspicious = _SUSPICIOUS.search(body) is not None
    return [_member(member, suspicious=suspicious) for member in members]


def _member(member: object, *, suspicious: bool) -> Request | Exception:
    try:
        return _request(_job(member), suspicious=suspicious)
    except (InvalidRequest, BadInput, InputTooLarge) as error:
        return error


def hash_of(body: bytes) -> str:
    """Return what tells two bodies apart."""
    return hashlib.sha256(body).hexdigest()


def _json(body: bytes) -> object:
    try:
        value: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the body must be JSON: {error}") from None
    return value


def _job(value: object) -> NewJob:
    try:
        return NewJob.model_validate(value)
    except ValidationError as error:
        # Without the input: it may be of a kind that no answer can carry.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if not first["loc"]:
            text = 'the body must be a JSON object such as {"kind": "greet", "input": {}}'
            raise InvalidRequest(text, pointer="") from None
        text = f"{'.'.join(str(part) for part in first['loc'])[:100]}: {first['msg']}"
        raise InvalidRequest(text, pointer=pointer(first["loc"])[:POINTER_MAX]) from None


def _request(job: NewJob, *, suspicious: bool, idempotency: tuple[str, str] | None = None) -> Request:
    if suspicious and (problems := list(_unfit(job.input, []))):
        raise BadInput(job.kind, problems[:1])
    text = to_json(job.input)
    if len(text) > INPUT_MAX:
        raise InputTooLarge(f"the input has {len(text)} bytes of JSON, and may have {INPUT_MAX}: pass a URL instead")
    if b"Infinity" in text:
        # In a text, or for a number beyond what a floating point number can hold.
        try:
            json.dumps(job.input, allow_nan=False)
        except ValueError:
            raise BadInput(job.kind, [InputProblem("", "a number is too large")]) from None
    return Request(
        job.kind,
        text.decode(),
        job.input,
        delay_s=job.delay_s,
        attempts=job.attempts,
        labels=tuple(job.labels),
        idempotency=idempotency,
    )


def _unfit(value: object, path: list[str | int]) -> Iterator[InputProblem]:
    """Find what a handler in another language may stumble over."""
    if isinstance(value, str) and "\0" in value:
        yield InputProblem(pointer(path), "a string must not contain a NUL character")
    elif isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
        yield InputProblem(pointer(path), f"an integer must have at most {DIGITS_MAX} digits")
    elif isinstance(value, list):
        for n, member in enumerate(value):
            yield from _unfit(member, [*path, n])
    elif isinstance(value, dict):
        for name, member in value.items():
            if "\0" in name:
                yield InputProblem(pointer(path), "a name must not contain a NUL character")
            yield from _unfit(member, [*path, name])
