"""What callers may ask and what they are answered: the whole HTTP contract.

Every body has the shape `{"message": ...}`. Bodies are read as JSON whatever their content type says, because
`curl -d` says something else.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api_server.errors import ApiError, BadRequest, BodyTooLarge, StoreUnavailable
from messaging.events import JOB_ID, OBJECT_ID_MAX, object_id_problem
from runtime.http import BODY_MAX, Answer
from runtime.logs import get_logger
from runtime.probes import METRICS_TYPE, Probes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api_server.domain import Job
    from api_server.service import Service
    from runtime.http import Reply

_Asked = TypeVar("_Asked")

log = get_logger(__name__)

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


class Contract:
    """The two requests of the contract, from bytes to answers; each is told to a `reply` that is called once."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def create(self, body: bytes, reply: Reply) -> None:
        """Make a job for the object that a body names."""
        try:
            asked = self._service.submit(_object_id(body))
        except Exception as error:  # noqa: BLE001 - the outermost place of a request
            reply(_failure(error))
        else:
            asked.add_done_callback(partial(_tell, reply, _created))

    def read(self, job_id: str, reply: Reply) -> None:
        """Show a job."""
        try:
            # Nothing but a UUID was ever handed out, so nothing else needs to be looked for.
            if not JOB_ID.fullmatch(job_id):
                raise _unknown(job_id)  # noqa: TRY301 - the same end as of those that are looked for
            asked = self._service.find(job_id)
        except Exception as error:  # noqa: BLE001 - the outermost place of a request
            reply(_failure(error))
        else:
            asked.add_done_callback(partial(_tell, reply, partial(_shown, job_id)))

    # -- the short way: see `runtime.http.Shortcut` ---------------------------------------------------------------

    def takes(self, method: bytes, target: bytes) -> bool:
        """Whether this is one of the two requests, in the form in which nearly all of them come."""
        if method == b"POST":
            return target == b"/"
        return method == b"GET" and JOB_ID.fullmatch(target.decode("latin-1"), 1) is not None

    def answer(self, method: bytes, target: bytes, body: bytes, reply: Reply) -> None:
        """Answer a request that this takes."""
        if method == b"POST":
            self.create(body, reply)
        else:
            self.read(target[1:].decode(), reply)


def _tell(reply: Reply, show: Callable[[_Asked], Answer], asked: asyncio.Future[_Asked]) -> None:
    try:
        answer = show(asked.result())
    except Exception as error:  # noqa: BLE001 - the outermost place of a request
        answer = _failure(error)
    reply(answer)


def _created(job_id: str) -> Answer:
    return Answer(201, (("location", f"/{job_id}"),), b'{"message":{"job_id":"%b"}}' % job_id.encode())


def _shown(job_id: str, job: Job | None) -> Answer:
    if job is None:
        raise _unknown(job_id)
    return Answer(200, (), _view(job))


def _unknown(job_id: str) -> BadRequest:
    return BadRequest(f"no job with id: {job_id}")


def make_app(contract: Contract, probes: Probes) -> FastAPI:
    """Return the FastAPI application: every path, every method, and the contract's description."""
    # Interactive documentation would take paths that belong to job ids.
    app = FastAPI(title="Hasty", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(_probe_routes(probes))
    app.include_router(_job_routes(contract))
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


def _reply_to(ask: Callable[[Reply], None]) -> asyncio.Future[Answer]:
    """Have a question answered to a future, for who can wait."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    ask(lambda answer: None if future.done() else future.set_result(answer))
    return future


async def _whole_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise BodyTooLarge(f"the body must have at most {BODY_MAX} bytes")
    return body


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
        try:
            body = await _whole_body(request)
        except ClientDisconnect:
            # Nobody is left to be answered.
            return Response(status_code=400)
        return _response(await _reply_to(partial(contract.create, body)))

    @router.get("/{job_id}", response_model=Found, responses=_REFUSALS)
    async def read(job_id: str) -> Response:
        """Show a job."""
        return _response(await _reply_to(partial(contract.read, job_id)))

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


def _failure(error: Exception) -> Answer:
    return _error_answer(error) if isinstance(error, ApiError) else _defect_answer(error)


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
