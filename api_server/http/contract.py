"""The original's dialect: its two requests, from bytes to answers, and how it answers errors.

Every body has the shape `{"message": ...}`. Bodies are read as JSON whatever their content type says, because
`curl -d` says something else.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from api_server.errors import DiskFull, InvalidRequest, NoSuchJob, TooSoonError
from api_server.http.answers import BodyTooLarge, ErrorTable
from hasty.jobs import JOB_ID, OBJECT_ID_MAX, Job, Status, object_id_problem, whole
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.answer import Answer, Respond
from hasty.server.runtime.batching import Overloaded

RETRY_AFTER_S: Final = 1
TRY_AGAIN: Final = {"retry-after": str(RETRY_AFTER_S)}


class NewJob(BaseModel):
    """The body of `POST /`. Fields that the contract does not name are ignored, as the original does."""

    model_config = ConfigDict(strict=True)

    object_id: Annotated[str | None, Field(min_length=1, max_length=OBJECT_ID_MAX)] = None


class JobId(BaseModel):
    """The message of a 201."""

    job_id: str


class Created(BaseModel):
    """A 201's body."""

    message: JobId


class JobView(BaseModel):
    """A job as callers see it: `timestamp` is its creation in Unix seconds, `sleep_time_used` in seconds."""

    id: str
    job_id: str
    object_id: str
    status: str
    timestamp: int
    sleep_time_used: int | float


class Found(BaseModel):
    """A status read's body."""

    message: JobView


class Refused(BaseModel):
    """Any other body: what is wrong, in words."""

    message: str


class _Loose(BaseModel):
    """`NewJob` as it is read: what the contract says about the object id is judged in words afterwards."""

    model_config = ConfigDict(strict=True)

    object_id: str | None = None


_BODY: Final = TypeAdapter(_Loose)


def message(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer in the shape that every refusal has."""
    body = json.dumps({"message": text}, ensure_ascii=False, separators=(",", ":"))
    # A path may hold bytes that are no text; whatever cannot be encoded is shown as a question mark.
    return Answer(status, tuple((headers or {}).items()), body.encode("utf-8", "replace"))


def _too_soon(error: TooSoonError) -> Answer:
    decision = error.decision
    headers = {"retry-after": str(max(1, math.ceil(decision.retry_after_s))), "location": f"/{decision.job_id}"}
    # The original's sentence, whatever the cooldown is set to: callers compare it.
    return message(400, "you need to wait 5 minutes before rerunning the same job", headers)


_STATUS: Final = {Status.FAILED: Status.CANCELLED}
"""The original knows no job that failed."""

_USE: Final = "use POST / or GET /<job_id>"
_HTTP_ERRORS: Final = {404: f"no such path: {_USE}", 405: f"method not allowed: {_USE}"}

errors: Final = ErrorTable(
    {
        InvalidRequest: lambda error: message(400, str(error)),
        BodyTooLarge: lambda error: message(413, str(error)),
        TooSoonError: _too_soon,
        NoSuchJob: lambda error: message(400, f"no job with id: {error.job_id}"),
        StoreUnavailable: lambda _: message(503, "the service cannot reach its database, please try again", TRY_AGAIN),
        DiskFull: lambda _: message(503, "there is too little disk space for new jobs, please try again", TRY_AGAIN),
        Overloaded: lambda _: message(503, "the service is busy, please try again", TRY_AGAIN),
        HTTPException: lambda error: message(
            error.status_code, _HTTP_ERRORS.get(error.status_code, error.detail), error.headers
        ),
        Exception: lambda _: message(500, "something went wrong here, please try again"),
    }
)


class Admits(Protocol):
    """What makes jobs: `api_server.admission.Admission`; its errors are those of `api_server.errors`."""

    def submit(self, object_id: str, caller: str) -> asyncio.Future[str]:
        """Make a job for an object, and return its id."""
        ...


class Finds(Protocol):
    """What reads jobs: `api_server.queries.Queries`; its errors are those of `api_server.errors`."""

    def find(self, job_id: str, caller: str) -> asyncio.Future[Job | None]:
        """Return a job, or None when there is none with this id."""
        ...


class Contract:
    """The two requests of the contract, from bytes to answers; callers wait in rotation."""

    def __init__(self, admission: Admits, queries: Finds) -> None:
        self._admission = admission
        self._queries = queries

    def create(self, body: bytes, caller: str) -> asyncio.Future[Answer]:
        """Make a job for the object that a body names."""
        return errors.answer(lambda: self._admission.submit(_object_id(body), caller), _created)

    def read(self, job_id: str, caller: str) -> asyncio.Future[Answer]:
        """Show a job."""
        return errors.answer(partial(self._find, job_id, caller), partial(_shown, job_id))

    def _find(self, job_id: str, caller: str) -> asyncio.Future[Job | None]:
        # Nothing but a UUID was ever handed out, so nothing else needs to be looked for.
        if not JOB_ID.fullmatch(job_id):
            raise NoSuchJob(job_id)
        return self._queries.find(job_id, caller)

    # -- the shortcut: see `hasty.server.runtime.answer.Shortcut` ----------------------------------------------------

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Return what answers one of the two requests, in the form in which nearly all of them come."""
        if method == b"POST":
            return self.create if target == b"/" else None
        path = target.decode("latin-1")
        if method == b"GET" and JOB_ID.fullmatch(path, 1) is not None:
            return lambda _, caller: self.read(path[1:], caller)
        return None


def _created(job_id: str) -> Answer:
    return Answer(201, (("location", f"/{job_id}"),), b'{"message":{"job_id":"%b"}}' % job_id.encode())


def _shown(job_id: str, job: Job | None) -> Answer:
    # A job of another kind does not exist here.
    if job is None or not job.is_root:
        raise NoSuchJob(job_id)
    return Answer(200, (), _view(job))


def _object_id(body: bytes) -> str:
    try:
        object_id = _BODY.validate_json(body).object_id
    except ValidationError as error:
        # Without the input: it may be of a kind that no answer can carry.
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if problem["loc"]:
            raise InvalidRequest("object_id must be a string") from None
        must = 'the body must be a JSON object such as {"object_id": "x"}'
        raise InvalidRequest(f"{must}: {problem['msg']}" if problem["type"] == "json_invalid" else must) from None
    if not object_id:
        raise InvalidRequest("you must provide an object_id")
    if problem_in_words := object_id_problem(object_id):
        raise InvalidRequest(problem_in_words)
    return object_id


def _view(job: Job) -> bytes:
    view = JobView.model_construct(
        id=job.job_id,
        job_id=job.job_id,
        object_id=job.object_id,
        status=_STATUS.get(job.status, job.status).value,
        timestamp=int(job.created_at.timestamp()),
        sleep_time_used=whole(job.sleep_time_used),
    )
    # The serializer itself: `model_dump_json` would go by way of a text.
    serialized: bytes = JobView.__pydantic_serializer__.to_json(view)
    return b'{"message":%b}' % serialized
