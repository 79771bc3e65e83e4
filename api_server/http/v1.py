"""`/v1`: its requests, from HTTP to the use cases and back."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.utils import get_openapi

from api_server.cancellation import Cancellation
from api_server.domain import JobRecord
from api_server.errors import NoSuchJob
from api_server.explanation import revision_of
from api_server.http import links, list_views, problems, v1_batches, v1_lists
from api_server.http.answers import caller_of, response_of, unless_gone, whole_body
from api_server.http.bodies import NewJob, new_job
from api_server.http.list_views import TimelineView
from api_server.http.parameters import (
    WAIT_MAX_S,
    IdempotencyKey,
    JobIdInPath,
    LastEventId,
    Wait,
    only_known,
    refusals,
    require_job_id,
)
from api_server.http.problems import answered
from api_server.http.v1_batches import BatchRequests
from api_server.http.v1_lists import STREAMED, Lists, accepts_events
from api_server.http.views import JobView, KindList, Views, WorkerList
from api_server.repetition import Repetition
from api_server.submission import Submission, Submitted
from api_server.watch import Watch
from hasty.jobs import JOB_ID, TERMINAL
from hasty.server.runtime.answer import Answer, Respond

JSON: Final = "application/json"
PREFIX: Final = "/v1"

_JOBS: Final = f"{PREFIX}/jobs".encode()
_JOB: Final = re.compile(f"{PREFIX}/jobs/(?P<id>{JOB_ID.pattern})([?]wait=(?P<wait>[0-9]{{1,2}}))?".encode())

_LOCATION: Final = {"Location": {"schema": {"type": "string"}, "description": "The job's path"}}
_MADE_BEFORE: Final[dict[str, Any]] = {
    "model": JobView,
    "description": "The same request has made this job before",
    "headers": {**_LOCATION, "Idempotency-Replayed": {"schema": {"const": "true"}}},
    "links": links.OF_JOB,
}


@dataclass(frozen=True, slots=True)
class V1:
    """What answers the requests."""

    submission: Submission
    find: Callable[[str, str], asyncio.Future[JobRecord | None]]
    cancellation: Cancellation
    watch: Watch
    views: Views
    repetition: Repetition
    lists: Lists
    batches: BatchRequests

    async def create(self, request: Request, wait_s: float, idempotency_key: str | None) -> Answer:
        """Make a job, or find the one that the same request has made."""
        caller = caller_of(request)
        submitted = await self.submission.submit(new_job(await whole_body(request), idempotency_key), caller)
        record = submitted.record
        if wait_s > 0:
            record = await self._until_ended(request, record.job.job_id, wait_s)
        return self._made(Submitted(record, submitted.replayed))

    async def show(self, request: Request, job_id: str, wait_s: float) -> Answer:
        """Show a job, at once or when it has ended."""
        require_job_id(job_id)
        return self._shown(job_id, await self._until_ended(request, job_id, wait_s))

    async def cancel(self, request: Request, job_id: str) -> Answer:
        """Ask for a job to be cancelled."""
        require_job_id(job_id)
        record = await self.cancellation.cancel(job_id, caller_of(request))
        if record is None:
            raise NoSuchJob(job_id)
        return Answer(200 if record.job.status in TERMINAL else 202, (), self.views.job(record))

    async def repeat(self, request: Request, job_id: str, idempotency_key: str | None) -> Answer:
        """Make a new job of one that has ended."""
        require_job_id(job_id)
        return self._made(await self.repetition.repeat(job_id, idempotency_key, caller_of(request)))

    async def timeline(self, request: Request, job_id: str) -> Answer:
        """Show what has happened to a job."""
        return Answer(200, (), list_views.timeline(*self.views.history(await self._found(request, job_id))))

    async def stream(self, request: Request, job_id: str, last_event_id: int | None) -> Response:
        """Stream a job to its outcome; a client that has seen it is told that there is no more."""
        try:
            record = await self._found(request, job_id)
            if record.job.status in TERMINAL and last_event_id is not None and last_event_id >= revision_of(record.job):
                return Response(status_code=204)
            return self.lists.streams.job(record, caller_of(request))
        except Exception as error:  # noqa: BLE001 - a request's outermost place
            return response_of(problems.errors(error))

    async def _found(self, request: Request, job_id: str) -> JobRecord:
        require_job_id(job_id)
        record = await self.find(job_id, caller_of(request))
        if record is None:
            raise NoSuchJob(job_id)
        return record

    # -- the shortcut: see `hasty.server.runtime.answer.Shortcut` ----------------------------------------------------

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Return what makes or shows a job, in the form in which nearly all such requests come."""
        if method == b"POST":
            return self._answer_submission if target == _JOBS else None
        found = _JOB.fullmatch(target) if method == b"GET" else None
        if found is None or int(found["wait"] or 0) > WAIT_MAX_S:
            return None
        return partial(self._answer_read, found["id"].decode(), int(found["wait"] or 0))

    def _answer_submission(self, body: bytes, caller: str) -> asyncio.Future[Answer]:
        return problems.errors.answer(lambda: self.submission.submit(new_job(body, None), caller), self._made)

    def _answer_read(self, job_id: str, wait_s: int, _body: bytes, caller: str) -> asyncio.Future[Answer]:
        def ask() -> asyncio.Future[JobRecord | None]:
            if wait_s == 0:
                return self.find(job_id, caller)
            return asyncio.ensure_future(self.watch.until_ended(job_id, wait_s, caller))

        return problems.errors.answer(ask, partial(self._shown, job_id))

    def _made(self, submitted: Submitted) -> Answer:
        headers = [("location", f"{PREFIX}/jobs/{submitted.record.job.job_id}")]
        if submitted.replayed:
            headers.append(("idempotency-replayed", "true"))
        return Answer(200 if submitted.replayed else 201, tuple(headers), self.views.job(submitted.record))

    def _shown(self, job_id: str, record: JobRecord | None) -> Answer:
        if record is None:
            raise NoSuchJob(job_id)
        return Answer(200, (), self.views.job(record))

    async def _until_ended(self, request: Request, job_id: str, wait_s: float) -> JobRecord:
        waiting = self.watch.until_ended(job_id, wait_s, caller_of(request))
        # A caller that hangs up must not hold its place for the rest of the wait.
        record = await (waiting if wait_s <= 0 else unless_gone(request, waiting))
        if record is None:
            raise NoSuchJob(job_id)
        return record


def routes(v1: V1) -> APIRouter:  # long: a declaration for each request
    """Return the routes of `/v1`."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(only_known)])

    @router.post(
        "/jobs",
        operation_id="create_job",
        status_code=201,
        response_model=JobView,
        responses={
            **refusals(409, 413, 422),
            201: {"description": "The job is stored", "headers": _LOCATION, "links": links.OF_JOB},
            200: _MADE_BEFORE,
        },
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": NewJob.model_json_schema()}}}},
    )
    async def create(request: Request, wait: Wait = 0, idempotency_key: IdempotencyKey = None) -> Response:
        """Make a job of a kind."""
        return await answered(v1.create(request, wait, idempotency_key))

    v1_lists.add_routes(router, v1.lists)

    @router.get(
        "/jobs/{job_id}",
        operation_id="show_job",
        response_model=JobView,
        responses={
            **refusals(404),
            200: {"content": STREAMED, "links": links.OF_JOB},
            204: {"description": "A stream whose client has seen the outcome: there is no more"},
        },
    )
    async def show(
        request: Request, job_id: JobIdInPath, wait: Wait = 0, last_event_id: LastEventId = None
    ) -> Response:
        """Show a job; as an event stream: the whole of it at each change, to its outcome."""
        if accepts_events(request):
            return await v1.stream(request, job_id, last_event_id)
        return await answered(v1.show(request, job_id, wait))

    @router.post(
        "/jobs/{job_id}/cancel",
        operation_id="cancel_job",
        status_code=202,
        response_model=JobView,
        responses={
            **refusals(404),
            202: {"links": links.OF_JOB},
            200: {"model": JobView, "description": "The job had ended already", "links": links.OF_JOB},
        },
    )
    async def cancel(request: Request, job_id: JobIdInPath) -> Response:
        """Cancel a job: it never starts, or is asked to stop."""
        return await answered(v1.cancel(request, job_id))

    @router.post(
        "/jobs/{job_id}/retry",
        operation_id="retry_job",
        status_code=201,
        response_model=JobView,
        responses={
            **refusals(404, 409, 422),
            201: {"description": "A new job is stored", "headers": _LOCATION, "links": links.OF_JOB},
            200: _MADE_BEFORE,
        },
    )
    async def repeat(request: Request, job_id: JobIdInPath, idempotency_key: IdempotencyKey = None) -> Response:
        """Make a new job with the input, attempts and labels of one that has ended."""
        return await answered(v1.repeat(request, job_id, idempotency_key))

    @router.get(
        "/jobs/{job_id}/timeline", operation_id="show_timeline", response_model=TimelineView, responses=refusals(404)
    )
    async def timeline(request: Request, job_id: JobIdInPath) -> Response:
        """Show what has happened to a job, attempt by attempt."""
        return await answered(v1.timeline(request, job_id))

    v1_batches.add_routes(router, v1.batches)

    @router.get("/kinds", operation_id="list_kinds", response_model=KindList, responses=refusals())
    async def kinds() -> Response:
        """Show the kinds of jobs, with their schemas and who serves them."""
        return Response(v1.views.kinds(), media_type=JSON)

    @router.get("/workers", operation_id="list_workers", response_model=WorkerList, responses=refusals())
    async def workers() -> Response:
        """Show the job-servers that were heard of in the last minute."""
        return Response(v1.views.workers(), media_type=JSON)

    @router.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        """Describe `/v1`."""
        return Response(json.dumps(describe(router)), media_type=JSON)

    return router


def describe(router: APIRouter) -> dict[str, Any]:
    """Return the OpenAPI description of `/v1`."""
    description: dict[str, Any] = get_openapi(
        title="Hasty", version="1", summary="Jobs with exactly one outcome", routes=router.routes
    )
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    _define(description, description["components"]["schemas"])
    return description


def _define(part: Any, schemas: dict[str, Any]) -> None:
    """Move what schemas inside the description define for themselves to where they refer to."""
    for value in list(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()):
        _define(value, schemas)
    if isinstance(part, dict):
        schemas.update(part.pop("$defs", {}))


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a parameter that may be left out: FastAPI says that it may be null, which no text in a URL is."""
    options: list[dict[str, Any]] = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | options[0]
