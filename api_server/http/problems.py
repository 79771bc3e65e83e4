"""The dialect of `/v1` for errors: problem details (RFC 9457), `application/problem+json`."""

import json
import math
import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api_server.errors import (
    BadInput,
    DiskFull,
    IdempotencyMismatch,
    InputTooLarge,
    InvalidRequest,
    NoSuchBatch,
    NoSuchJob,
    StillProcessing,
    TooSoonError,
    UnknownKind,
)
from api_server.http.answers import BodyTooLarge, ErrorTable, response_of
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.answer import Answer, refusal
from hasty.server.runtime.batching import Overloaded

PROBLEM_JSON: Final = "application/problem+json"
TYPE: Final = "urn:hasty:problem:"
"""What every `type` begins with; docs/api.md describes each."""

_V1: Final = re.compile(rb"/v1(/|[?]|$)")

TRY_AGAIN: Final = {"retry-after": "1"}


class InputError(BaseModel):
    """What is wrong with one place of the input, or of the body."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """Why a request was not answered as it wished."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[InputError] | None = None
    parameter: str | None = None
    job_id: str | None = None
    nearest: str | None = None


_TITLES: Final = {
    "malformed": (400, "The request is malformed"),
    "foreign-origin": (403, "Pages of another origin are not answered"),
    "read-only": (403, "Browsers may only read"),
    "no-such-path": (404, "There is nothing at this path"),
    "no-such-job": (404, "There is no such job"),
    "no-such-batch": (404, "There is no such batch"),
    "method-not-allowed": (405, "This path has other methods"),
    "key-taken": (409, "Another job has this key"),
    "still-processing": (409, "The job has not ended"),
    "too-large": (413, "The request is too large"),
    "unknown-kind": (422, "There is no such kind"),
    "bad-input": (422, "The input does not fit the kind"),
    "idempotency-mismatch": (422, "The idempotency key was used with another body"),
    "internal-error": (500, "Something went wrong here"),
    "busy": (503, "Too many requests are waiting"),
    "disk-full": (503, "There is too little disk space for new jobs"),
    "unavailable": (503, "The database cannot be reached"),
}


def problem(name: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Answer:
    """Answer with a problem of this name; `members` are those that only problems of this type have."""
    status, title = _TITLES[name]
    document = {"type": TYPE + name, "title": title, "status": status, "detail": detail, **members}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # A path may hold bytes that are no text; whatever cannot be encoded is shown as a question mark.
    return Answer(status, tuple((headers or {}).items()), body.encode("utf-8", "replace"), PROBLEM_JSON)


def unreadable(status: HTTPStatus, text: str, target: bytes) -> Answer:
    """Answer what cannot be read as a request: with a problem where its target is known to be one of `/v1`."""
    if _V1.match(target) is None:
        return refusal(status, text)
    return problem("malformed", text, status=status.value)._replace(status=status.value)


def _key_taken(error: TooSoonError) -> Answer:
    decision = error.decision
    headers = {
        "retry-after": str(max(1, math.ceil(decision.retry_after_s))),
        "location": f"/v1/jobs/{decision.job_id}",
    }
    return problem("key-taken", str(error), headers, job_id=decision.job_id)


def _bad_input(error: BadInput) -> Answer:
    errors = [{"pointer": one.pointer, "detail": one.detail} for one in error.problems]
    return problem("bad-input", str(error), errors=errors)


def _invalid_parameter(error: RequestValidationError) -> Answer:
    # Without the input: it may be of a kind that no answer can carry.
    first = error.errors()[0]
    name = str(first["loc"][1])
    return problem("malformed", f"{name}: {first['msg']}", parameter=name)


def _invalid_request(error: InvalidRequest) -> Answer:
    members: dict[str, Any] = {}
    if error.pointer is not None:
        members["errors"] = [{"pointer": error.pointer, "detail": str(error)}]
    if error.parameter is not None:
        members["parameter"] = error.parameter
    return problem("malformed", str(error), **members)


def _http_error(error: HTTPException) -> Answer:
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return problem("no-such-path", "see /v1/openapi.json for every path", headers)
        case 405:
            return problem("method-not-allowed", "see /v1/openapi.json for every method", headers)
        case 413:
            return problem("too-large", str(error.detail), headers)
        case _:
            return problem("malformed", str(error.detail), headers)


errors: Final = ErrorTable(
    {
        InvalidRequest: _invalid_request,
        RequestValidationError: _invalid_parameter,
        BodyTooLarge: lambda error: problem("too-large", str(error)),
        InputTooLarge: lambda error: problem("too-large", str(error)),
        NoSuchJob: lambda error: problem("no-such-job", str(error)),
        NoSuchBatch: lambda error: problem("no-such-batch", str(error)),
        StillProcessing: lambda error: problem("still-processing", str(error), job_id=error.job_id),
        TooSoonError: _key_taken,
        UnknownKind: lambda error: problem("unknown-kind", str(error), nearest=error.nearest),
        BadInput: _bad_input,
        IdempotencyMismatch: lambda _: problem(
            "idempotency-mismatch", "a request with this Idempotency-Key had another body: use a new key"
        ),
        StoreUnavailable: lambda _: problem(
            "unavailable", "the service cannot reach its database, please try again", TRY_AGAIN
        ),
        DiskFull: lambda _: problem(
            "disk-full", "there is too little disk space for new jobs, please try again", TRY_AGAIN
        ),
        Overloaded: lambda _: problem("busy", "the service is busy, please try again", TRY_AGAIN),
        HTTPException: _http_error,
        Exception: lambda _: problem("internal-error", "something went wrong here, please try again"),
    }
)


async def answered(answering: Awaitable[Answer]) -> Response:
    """Answer a request: its result, or the problem that its error is."""
    try:
        answer = await answering
    except ClientDisconnect:
        # The caller is gone.
        return Response(status_code=400)
    except Exception as error:  # noqa: BLE001 - a request's outermost place
        answer = errors(error)
    return response_of(answer)
