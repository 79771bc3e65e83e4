"""`/v1`, batches: many jobs in one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api_server.batches import Answered, Batches
from api_server.http import links, list_views, problems
from api_server.http.answers import caller_of, unless_gone, whole_body
from api_server.http.bodies import BATCH_BODY_MAX, NewBatch, hash_of, new_batch
from api_server.http.list_views import BatchView, NewBatchView
from api_server.http.parameters import DEFINED, BatchIdInPath, IdempotencyKey, Wait, refusals, require_batch_id
from api_server.http.problems import answered
from api_server.http.views import Views
from api_server.submission import Submitted
from hasty.server.runtime.answer import Answer

_MADE: Final[dict[str, Any]] = {
    "headers": {"Location": {"schema": {"type": "string"}, "description": "The batch's path"}},
    "links": links.OF_BATCH,
}

_BODY: Final[dict[str, Any]] = {
    "content": {"application/json": {"schema": NewBatch.model_json_schema(ref_template=DEFINED)}},
    "required": True,
}


@dataclass(frozen=True, slots=True)
class BatchRequests:
    """What answers the requests."""

    batches: Batches
    views: Views

    async def create(self, request: Request, idempotency_key: str | None) -> Answer:
        """Make a batch."""
        body = await whole_body(request, BATCH_BODY_MAX)
        members = new_batch(body)
        idempotency = None if idempotency_key is None else (idempotency_key, hash_of(body))
        return self._made(await self.batches.submit(members, idempotency, caller_of(request)))

    async def show(self, request: Request, batch_id: str, wait_s: float) -> Answer:
        """Show how far a batch is, at once or when all its jobs have ended."""
        require_batch_id(batch_id)
        counted = await unless_gone(request, self.batches.counts(batch_id, wait_s, caller_of(request)))
        return Answer(200, (), list_views.counts(batch_id, counted))

    async def cancel(self, request: Request, batch_id: str) -> Answer:
        """Cancel what has not ended of a batch."""
        require_batch_id(batch_id)
        await self.batches.cancel(batch_id, caller_of(request))
        return Answer(202, (), list_views.counts(batch_id, await self.batches.counts(batch_id)))

    async def repeat(self, request: Request, batch_id: str, idempotency_key: str | None) -> Answer:
        """Make a new batch of what failed or was cancelled."""
        require_batch_id(batch_id)
        idempotency = None if idempotency_key is None else (idempotency_key, hash_of(batch_id.encode()))
        return self._made(await self.batches.repeat(batch_id, idempotency, caller_of(request)))

    def _made(self, made: Answered) -> Answer:
        headers = (("location", f"/v1/batches/{made.batch_id}"),)
        return Answer(200, headers, list_views.batch(made.batch_id, self._members(made.results)))

    def _members(self, results: Sequence[Submitted | Exception]) -> list[tuple[int, bytes]]:
        members = []
        for result in results:
            if isinstance(result, Submitted):
                members.append((200 if result.replayed else 201, self.views.job(result.record)))
            else:
                problem = problems.errors(result)
                members.append((problem.status, problem.body))
        return members


def add_routes(router: APIRouter, requests: BatchRequests) -> None:  # long: a declaration for each request
    """Add the routes of batches."""

    @router.post(
        "/batches",
        operation_id="create_batch",
        response_model=NewBatchView,
        responses={**refusals(413, 422), 200: _MADE},
        openapi_extra={"requestBody": _BODY},
    )
    async def create(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """Make up to 1,000 jobs: each is decided on by itself, and a bad one stops no other."""
        return await answered(requests.create(request, idempotency_key))

    @router.get("/batches/{batch_id}", operation_id="show_batch", response_model=BatchView, responses=refusals(404))
    async def show(request: Request, batch_id: BatchIdInPath, wait: Wait = 0) -> Response:
        """Show how many of a batch's jobs have each status."""
        return await answered(requests.show(request, batch_id, wait))

    @router.post(
        "/batches/{batch_id}/cancel",
        operation_id="cancel_batch",
        status_code=202,
        response_model=BatchView,
        responses={**refusals(404), 202: {"links": links.OF_BATCH}},
    )
    async def cancel(request: Request, batch_id: BatchIdInPath) -> Response:
        """Cancel the jobs of a batch that have not ended."""
        return await answered(requests.cancel(request, batch_id))

    @router.post(
        "/batches/{batch_id}/retry",
        operation_id="retry_batch",
        response_model=NewBatchView,
        responses={**refusals(404, 422), 200: _MADE},
    )
    async def repeat(request: Request, batch_id: BatchIdInPath, idempotency_key: IdempotencyKey = None) -> Response:
        """Make a new batch of the jobs of a batch that failed or were cancelled."""
        return await answered(requests.repeat(request, batch_id, idempotency_key))
