"""The FastAPI application: every path and method."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from api_server.errors import InvalidRequest
from api_server.http import contract, problems, v1
from api_server.http.answers import BodyTooLarge, caller_of, response_of, whole_body
from api_server.http.browsers import Access, OfBrowsers, Refusal
from api_server.http.contract import Contract, Created, Found, NewJob, Refused
from hasty.server.runtime.answer import Answer
from hasty.server.runtime.probes import METRICS_TYPE, Probes

JSON: Final = "application/json"
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
READ_ONLY: Final = Access()
_WHY: Final = {
    Refusal.FOREIGN_ORIGIN: "a page of another origin must neither act nor read here: open the dashboard at /ui/, and"
    " send JSON with its content type; HASTY_UI_HOSTS names the hosts under which browsers may come",
    Refusal.READ_ONLY: "browsers may only read here: use the command or curl, or set HASTY_UI=act",
}

_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refused, "description": "Not as the contract says, within the cooldown, or no such job"},
    503: {"model": Refused, "description": "Try again after the seconds in `Retry-After`"},
}


def make_app(jobs: Contract, probes: Probes, jobs_of_kinds: v1.V1, access: Access = READ_ONLY) -> FastAPI:
    """Return the application: the contract, `/v1`, and the probes; `access` says what browsers may do."""
    # Interactive documentation would take paths that belong to job ids.
    app = FastAPI(title="Hasty", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(_probe_routes(probes))
    app.include_router(v1.routes(jobs_of_kinds))
    app.include_router(_job_routes(jobs))
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    app.add_exception_handler(InvalidRequest, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_middleware(OfBrowsers, access, _refused)
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route with this path alone.
        headers = {"Allow": ", ".join(method for method in METHODS if _is_offered(request, method))}
        error = HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers=headers)
    if _is_v1(request.url.path):
        return response_of(problems.errors(error))
    return response_of(contract.errors(error))


def _is_offered(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _refused(path: str, refusal: Refusal) -> Answer:
    detail = _WHY[refusal]
    return problems.problem(refusal, detail) if _is_v1(path) else contract.message(403, detail)


def _is_v1(path: str) -> bool:
    return path == v1.PREFIX or path.startswith(f"{v1.PREFIX}/")


def _job_routes(jobs: Contract) -> APIRouter:
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
            body = await whole_body(request)
        except ClientDisconnect:
            # The caller is gone.
            return Response(status_code=400)
        except BodyTooLarge as error:
            return response_of(contract.errors(error))
        return response_of(await jobs.create(body, caller_of(request)))

    @router.get("/{job_id}", response_model=Found, responses=_REFUSALS)
    async def read(job_id: str, request: Request) -> Response:
        """Show a job."""
        return response_of(await jobs.read(job_id, caller_of(request)))

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
