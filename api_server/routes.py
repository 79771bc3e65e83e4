"""What callers may ask and what they are answered: the whole HTTP contract.

Every body has the shape `{"message": ...}`. Bodies are read as JSON whatever their content type says, because
`curl -d` says something else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from api_server.errors import ApiError, BadRequest, BodyTooLarge, StoreUnavailable
from messaging.events import OBJECT_ID_MAX, object_id_problem
from runtime.logs import get_logger
from runtime.probes import METRICS_TYPE, Probes

if TYPE_CHECKING:
    from api_server.domain import Job
    from api_server.service import Service

log = get_logger(__name__)

BODY_MAX: Final = 64 * 1024
"""Bytes of a request's body; nginx refuses longer ones as well."""

JOB_ID_LENGTH: Final = 36
JSON: Final = "application/json"


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
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refused, "description": "Not as the contract says, within the cooldown, or no such job"},
    503: {"model": Refused, "description": "Try again after the seconds in `Retry-After`"},
}


def make_app(service: Service, probes: Probes) -> FastAPI:
    """Return the application that serves the contract with this service."""
    # Interactive documentation would take paths that belong to job ids.
    app = FastAPI(title="Hasty", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(_probe_routes(probes))
    app.include_router(_job_routes(service))
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_defect)
    return app


def _job_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/",
        status_code=201,
        response_model=Created,
        responses={**_REFUSALS, 413: {"model": Refused}},
        openapi_extra={
            "requestBody": {"required": True, "content": {JSON: {"schema": NewJob.model_json_schema()}}},
        },
    )
    async def create(request: Request) -> Response:
        """Make a job for an object."""
        job_id = await service.submit(_object_id(await _body(request)))
        return Response(b'{"message":{"job_id":"%b"}}' % job_id.encode(), 201, {"location": f"/{job_id}"}, JSON)

    @router.get("/{job_id}", response_model=Found, responses=_REFUSALS)
    async def read(job_id: str) -> Response:
        """Show a job."""
        # Nothing but a UUID was ever handed out, so nothing else needs to be looked for.
        job = await service.find(job_id) if len(job_id) == JOB_ID_LENGTH else None
        if job is None:
            raise BadRequest(f"no job with id: {job_id}")
        return Response(_view(job), 200, None, JSON)

    return router


def _probe_routes(probes: Probes) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> Response:
        """Say that the process lives."""
        status, body = await probes.healthz()
        return Response(body, status, media_type=JSON)

    @router.get("/readyz")
    async def readyz() -> Response:
        """Say whether what the process needs answers."""
        status, body = await probes.readyz()
        return Response(body, status, media_type=JSON)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Show the process's numbers."""
        return Response(probes.metrics(), media_type=METRICS_TYPE)

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise BodyTooLarge(f"the body must have at most {BODY_MAX} bytes")
    return body


def _object_id(body: bytes) -> str:
    try:
        object_id = _BODY.validate_json(body).object_id
    except ValidationError as error:
        # Without the input: it may be of a kind that no answer can carry.
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if problem["loc"]:
            raise BadRequest("object_id must be a string") from None
        if problem["type"] == "json_invalid":
            raise BadRequest(f'the body must be a JSON object such as {{"object_id": "x"}}: {problem["msg"]}') from None
        raise BadRequest('the body must be a JSON object such as {"object_id": "x"}') from None
    if not object_id:
        raise BadRequest("you must provide an object_id")
    if problem_in_words := object_id_problem(object_id):
        raise BadRequest(problem_in_words)
    return object_id


def _view(job: Job) -> bytes:
    slept = job.sleep_time_used
    view = JobView.model_construct(
        id=job.run.job_id,
        job_id=job.run.job_id,
        object_id=job.run.object_id,
        status=job.status.value,
        timestamp=int(job.run.created_at.timestamp()),
        # Whole seconds look as in the original.
        sleep_time_used=int(slept) if slept == int(slept) else slept,
    )
    return b'{"message":%b}' % view.__pydantic_serializer__.to_json(view)


def _message(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"message": text}, ensure_ascii=False, separators=(",", ":"))
    # A path may hold bytes that are no text; whatever cannot be encoded is shown as a question mark.
    return Response(body.encode("utf-8", "replace"), status, headers, JSON)


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - it is registered for these alone
    if isinstance(error, StoreUnavailable):
        log.warning("store_unavailable", reason=error.reason)
    return _message(str(error), error.status, error.headers())


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    words = {404: "no such path: use POST / or GET /<job_id>", 405: "method not allowed: use POST / or GET /<job_id>"}
    return _message(words.get(error.status_code, error.detail), error.status_code, dict(error.headers or {}))


async def _answer_defect(_request: Request, error: Exception) -> Response:
    log.error("defect", exc_info=error)
    return _message("something went wrong here, please try again", 500)
