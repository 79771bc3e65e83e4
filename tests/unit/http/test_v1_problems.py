"""What `/v1` refuses: every error is a problem of a known type."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.exceptions import HTTPException

from api_server.domain import TooSoon
from api_server.errors import (
    BadInput,
    DiskFull,
    IdempotencyMismatch,
    InputProblem,
    InputTooLarge,
    InvalidRequest,
    NoSuchBatch,
    NoSuchJob,
    StillProcessing,
    TooSoonError,
    UnknownKind,
)
from api_server.http import problems
from api_server.http.answers import BodyTooLarge
from api_server.http.browsers import Refusal
from hasty.jobs import INPUT_MAX
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Overloaded
from tests.unit.http.v1_api import BODIES, Api, caller, description_of, post, problem_of

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
async def api() -> Api:
    """An api-server that knows kinds."""
    api = Api()
    await api.know_kinds()
    return api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of it."""
    async with caller(api.app) as client:
        yield client


@pytest.mark.parametrize("name", BODIES)
async def test_each_bad_body_has_its_problem(http: httpx.AsyncClient, name: str) -> None:
    """A clear 4xx, whatever comes."""
    body, expected = BODIES[name]
    response = await http.post("/v1/jobs", content=body)
    assert problem_of(response)[1] == expected
    assert 400 <= response.status_code < 500


async def test_longest_input_is_accepted(http: httpx.AsyncClient) -> None:
    """To the byte."""
    name = "x" * (INPUT_MAX - len('{"name":""}'))
    assert (await post(http, name=name)).status_code == 201
    assert problem_of(await post(http, name=name + "x")) == (413, "too-large")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/nothing", (404, "no-such-path")),
        ("GET", "/v1/", (404, "no-such-path")),
        ("DELETE", "/v1/kinds", (405, "method-not-allowed")),
        ("PUT", "/v1/jobs", (405, "method-not-allowed")),
        ("GET", "/v1/jobs/x", (404, "no-such-job")),
        ("GET", "/v1/jobs/%FF", (404, "no-such-job")),
        ("GET", f"/v1/jobs/{'0' * 8}-0000-0000-0000-{'0' * 12}", (404, "no-such-job")),
        ("GET", "/v1/jobs/x?wait=61", (400, "malformed")),
        ("GET", "/v1/jobs/x?wait=nan", (400, "malformed")),
        ("GET", "/v1/jobs/x?wait=soon", (400, "malformed")),
    ],
)
async def test_each_wrong_request_has_its_problem(
    http: httpx.AsyncClient, method: str, path: str, expected: tuple[int, str]
) -> None:
    """Paths, methods, ids and parameters."""
    assert problem_of(await http.request(method, path)) == expected


ERRORS = [
    (InvalidRequest("no"), (400, "malformed")),
    (NoSuchJob("a"), (404, "no-such-job")),
    (HTTPException(404), (404, "no-such-path")),
    (HTTPException(405), (405, "method-not-allowed")),
    (TooSoonError(TooSoon("a", 12.3)), (409, "key-taken")),
    (BodyTooLarge("long"), (413, "too-large")),
    (NoSuchBatch("x"), (404, "no-such-batch")),
    (StillProcessing("x"), (409, "still-processing")),
    (InputTooLarge("long"), (413, "too-large")),
    (UnknownKind("a", None), (422, "unknown-kind")),
    (BadInput("a", [InputProblem("/b", "no")]), (422, "bad-input")),
    (IdempotencyMismatch("k"), (422, "idempotency-mismatch")),
    (KeyError("secret"), (500, "internal-error")),
    (Overloaded("9 wait"), (503, "busy")),
    (DiskFull("no space"), (503, "disk-full")),
    (StoreUnavailable("no primary"), (503, "unavailable")),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_each_error_has_its_problem(error: Exception, expected: tuple[int, str]) -> None:
    """By one table; what may be tried again says when, and nothing of an error's inside is shown."""
    answer = problems.errors(error)
    body = json.loads(answer.body)
    assert (answer.status, body["type"].removeprefix(problems.TYPE)) == expected
    assert ("retry-after" in dict(answer.headers)) == (answer.status == 503 or expected[1] == "key-taken")
    assert b"secret" not in answer.body


def test_docs_describe_every_problem() -> None:
    """And no other: a caller looks its type up."""
    described = set(re.findall(r"^\| `([a-z-]+)` \| \d{3} \|", DOCS.read_text(), re.MULTILINE))
    # What browsers are refused comes of no error.
    assert described == {*(name for _, (_, name) in ERRORS), *(str(refused) for refused in Refusal)}


def test_docs_describe_every_request() -> None:
    """Each path and method of the description is a heading there."""
    described = asyncio.run(description_of(Api()))
    requests = {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    headings = set(re.findall(r"^### `([A-Z]+ [^`]+)`", DOCS.read_text(), re.MULTILINE))
    assert headings == {re.sub("(job|batch)_id", "id", request) for request in requests} | {"GET /v1/openapi.json"}


async def test_without_a_database_callers_are_told_to_try_again(api: Api, http: httpx.AsyncClient) -> None:
    """503 with Retry-After; kinds and workers are known all the same."""
    api.world.store.up = False
    for response in (await post(http, name="Ada"), await http.get(f"/v1/jobs/{'0' * 8}-0000-0000-0000-{'0' * 12}")):
        assert problem_of(response) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"
    assert (await http.get("/v1/kinds")).status_code == 200
