"""What callers may ask and what they are answered: the whole HTTP contract.

Every body has the shape `{"message": ...}`. Bodies are read as JSON whatever their content type says, because
`curl -d` says something else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api_server.errors import ApiError, BadRequest, BodyTooLarge, StoreUnavailable
from messaging.events import JOB_ID, OBJECT_ID_MAX, object_id_problem
from runtime.logs import get_logger
from runtime.probes import METRICS_TYPE, Probes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from api_server.domain import Job
    from api_server.service import Service
    from runtime.probes import Receive, Scope, Send

log = get_logger(__name__)

BODY_MAX: Final = 64 * 1024
"""Bytes of a request's body; nginx refuses longer ones as well."""

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


class Answer(NamedTuple):
    """What a caller is told: status code, headers beside the content's type and length, JSON."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Contract:
    """The two requests of the contract, from bytes to answers; raises `ApiError` for every other end."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, body: bytes) -> Answer:
        """Make a job for the object that a body names."""
        job_id = await self._service.submit(_object_id(body))
        return Answer(201, (("location", f"/{job_id}"),), b'{"message":{"job_id":"%b"}}' % job_id.encode())

    async def read(self, job_id: str) -> Answer:
        """Show a job."""
        # Nothing but a UUID was ever handed out, so nothing else needs to be looked for.
        job = await self._service.find(job_id) if JOB_ID.fullmatch(job_id) else None
        if job is None:
            raise BadRequest(f"no job with id: {job_id}")
        return Answer(200, (), _view(job))


def make_app(service: Service, probes: Probes) -> FastLane:
    """Return the application that serves the contract with this service."""
    contract = Contract(service)
    return FastLane(contract, make_framework_app(contract, probes))


def make_framework_app(contract: Contract, probes: Probes) -> FastAPI:
    """Return the FastAPI application: every path, every method, and the contract's description."""
    # Interactive documentation would take paths that belong to job ids.
    app = FastAPI(title="Hasty", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(_probe_routes(probes))
    app.include_router(_job_routes(contract))
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


class FastLane:
    """Answers the two requests that make nearly all of the load by itself, and leaves the rest to FastAPI.

    With FastAPI's routing, dependencies and middleware a request costs 49 µs, here 4.5. Both ways call the same
    `Contract`, so they cannot differ in what they answer.
    """

    def __init__(self, contract: Contract, rest: FastAPI) -> None:
        self._contract = contract
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        path: str = scope.get("path", "")
        if path == "/" and scope["method"] == "POST":
            try:
                answer = await _answer(self._create(receive))
            except ClientDisconnect:
                return
            await _send(send, answer)
        elif JOB_ID.fullmatch(path, 1) and scope["method"] == "GET":
            await _send(send, await _answer(self._contract.read(path[1:])))
        else:
            await self._rest(scope, receive, send)

    async def _create(self, receive: Receive) -> Answer:
        return await self._contract.create(await _whole_body(receive))


async def _answer(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except ApiError as error:
        return _error_answer(error)
    except ClientDisconnect:
        raise
    except Exception as error:  # noqa: BLE001 - the outermost place of a request
        return _defect_answer(error)


async def _whole_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > BODY_MAX:
            raise BodyTooLarge(f"the body must have at most {BODY_MAX} bytes")
        if not message.get("more_body"):
            return body


async def _send(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer.body)),
        *((name.encode(), value.encode()) for name, value in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), JSON)


def _job_routes(contract: Contract) -> APIRouter:
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
        return _response(await contract.create(await _whole_body(request.receive)))

    @router.get("/{job_id}", response_model=Found, responses=_REFUSALS)
    async def read(job_id: str) -> Response:
        """Show a job."""
        return _response(await contract.read(job_id))

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
    # The serializer itself: `model_dump_json` would go by way of a text.
    serialized: bytes = JobView.__pydantic_serializer__.to_json(view)
    return b'{"message":%b}' % serialized


def _message(text: str, status: int, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps({"message": text}, ensure_ascii=False, separators=(",", ":"))
    # A path may hold bytes that are no text; whatever cannot be encoded is shown as a question mark.
    return Answer(status, tuple((headers or {}).items()), body.encode("utf-8", "replace"))


def _error_answer(error: ApiError) -> Answer:
    if isinstance(error, StoreUnavailable):
        log.warning("store_unavailable", reason=error.reason)
    return _message(str(error), error.status, error.headers())


def _defect_answer(error: Exception) -> Answer:
    log.error("defect", exc_info=error)
    return _message("something went wrong here, please try again", 500)


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - it is registered for these alone
    return _response(_error_answer(error))


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    words = {404: "no such path: use POST / or GET /<job_id>", 405: "method not allowed: use POST / or GET /<job_id>"}
    return _response(_message(words.get(error.status_code, error.detail), error.status_code, error.headers))


async def _on_defect(_request: Request, error: Exception) -> Response:
    return _response(_defect_answer(error))
