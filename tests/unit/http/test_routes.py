"""The HTTP contract in one process: what the description promises, and that no input makes an error of ours."""

import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.exceptions import HTTPException

from api_server.admission import Admission
from api_server.domain import TooSoon
from api_server.errors import DiskFull, InvalidRequest, NoSuchJob, TooSoonError
from api_server.http import contract
from api_server.http.answers import BodyTooLarge, ErrorTable
from api_server.http.app import make_app
from api_server.http.contract import Contract
from api_server.outbox import Outbox
from api_server.queries import Queries
from hasty.jobs import Ending, Status, Turn
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.answer import Answer
from hasty.server.runtime.batching import Overloaded
from hasty.server.runtime.probes import Probes
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore, FakeLeaseStore
from tests.unit.api_server.v1_world import World

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Api:
    """An api-server's application on fakes, with ids and times that are the same in every run."""

    def __init__(self) -> None:
        self.store = FakeJobStore(lambda: NOON)
        broker = FakeBroker()
        broker.ensure(50)
        numbers = itertools.count(1)
        outbox = Outbox(
            self.store,
            FakeLeaseStore(self.store),
            FakeJetStream(broker),
            now=lambda: NOON,
            overdue=timedelta(seconds=180),
        )
        admission = Admission(
            self.store,
            outbox,
            now=lambda: NOON,
            cooldown=timedelta(seconds=300),
            new_id=lambda _key: str(uuid.UUID(int=next(numbers))),
        )
        self.probes = Probes({})
        self.contract = Contract(admission, Queries(self.store))
        self.app = make_app(self.contract, self.probes, World().v1().v1)


def caller(app: object) -> httpx.AsyncClient:
    """A caller of an application, without a network between."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # any ASGI application
    return httpx.AsyncClient(transport=transport, base_url="http://hasty")


@pytest.fixture
def api() -> Api:
    """An api-server of this test's own."""
    return Api()


def test_every_request_is_answered_as_described() -> None:
    """By status, headers and shape; no input, valid or not, is answered with a 5xx."""
    api = Api()
    described = api.app.openapi()
    described["paths"] = {path: item for path, item in described["paths"].items() if not path.startswith("/v1")}
    description = schemathesis.openapi.from_dict(described)
    description.app = api.app

    @settings(max_examples=60, deadline=None)
    @given(case=description.as_strategy())
    def ask(case: Case[Any]) -> None:
        # The original says 400 for what is well-formed as well: too soon, and no such job.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        assert response.status_code < 500
        assert response.headers["content-type"] == ["application/json"]
        assert list(response.json()) == ["message"]

    ask()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("object_id"), inner),
    max_leaves=10,
)
bodies = (
    st.binary(max_size=100)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(["x", "y", "\ud800", "\x00", "x" * 257]).map(
        lambda text: json.dumps({"object_id": text}).encode()
    )
)
paths = (
    st.just("/")
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda text: "/" + quote(text))
    | st.integers(0, 4).map(lambda number: f"/{uuid.UUID(int=number)}")
)
requests = st.tuples(st.sampled_from(["GET", "POST", "POST", "PUT", "HEAD", "OPTIONS"]), paths | st.just("/"), bodies)


async def short_way(api: Api, method: str, path: str, body: bytes) -> Answer | None:
    """Ask as the shortcut does, past FastAPI; None where it leaves a request to FastAPI."""
    respond = api.contract.route(method.encode(), path.encode())
    return None if respond is None else await respond(body, "")


@settings(max_examples=30, deadline=None)
@given(st.lists(requests, max_size=15))
async def test_the_shortcut_answers_as_fastapi_does(asked: list[tuple[str, str, bytes]]) -> None:
    """One service each, with ids and times that are the same: whatever was asked before, both say the same."""
    short, long = Api(), Api()
    async with caller(short.app) as left_over, caller(long.app) as framework:
        for method, path, body in asked:
            expected = await framework.request(method, path, content=body)
            assert expected.status_code < 500, (method, path, body)
            answer = await short_way(short, method, path, body)
            if answer is None:
                await left_over.request(method, path, content=body)
                continue
            assert (answer.status, answer.body) == (expected.status_code, expected.content)
            more = {name: value for name, value in expected.headers.items() if not name.startswith("content-")}
            assert dict(answer.headers) == more


async def test_a_job_that_slept_whole_seconds_shows_a_whole_number(api: Api) -> None:
    """As the original does; a fraction is shown as one."""
    async with caller(api.app) as http:
        for object_id, slept, shown in (("a", 17.0, b"17}"), ("b", 0.25, b"0.25}")):
            location = (await http.post("/", content=json.dumps({"object_id": object_id}))).headers["location"]
            await api.store.apply(Status.FINISHED, [Ending(Turn(location[1:], "x", 1), Status.FINISHED, slept)], NOON)

            assert (await http.get(location)).content.endswith(b'"sleep_time_used":' + shown + b"}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("no"), (400, {}, "no")),
        (BodyTooLarge("long"), (413, {}, "long")),
        (
            TooSoonError(TooSoon("a", 12.3)),
            (
                400,
                {"retry-after": "13", "location": "/a"},
                "you need to wait 5 minutes before rerunning the same job",
            ),
        ),
        (TooSoonError(TooSoon("a", 0)), (400, {"retry-after": "1"}, "you need to wait 5 minutes")),
        (NoSuchJob("a"), (400, {}, "no job with id: a")),
        (StoreUnavailable("no primary"), (503, {"retry-after": "1"}, "the service cannot reach its database")),
        (DiskFull("no space"), (503, {"retry-after": "1"}, "there is too little disk space for new jobs")),
        (Overloaded("9 wait"), (503, {"retry-after": "1"}, "the service is busy, please try again")),
        (HTTPException(404), (404, {}, "no such path: use POST / or GET /<job_id>")),
        (HTTPException(418, "teapot"), (418, {}, "teapot")),
        (KeyError("secret"), (500, {}, "something went wrong here, please try again")),
    ],
)
def test_each_error_has_its_answer(error: Exception, expected: tuple[int, dict[str, str], str]) -> None:
    """By the contract's one table; nothing of an error's inside is shown."""
    status, headers, text = expected
    answer = contract.errors(error)
    assert answer.status == status
    assert headers.items() <= dict(answer.headers).items()
    assert json.loads(answer.body)["message"].startswith(text)


async def test_overload_is_logged_as_overload() -> None:
    """Once a second, with how many were refused, and never as an unreachable database."""
    refusal = contract.message(400, "no")
    errors = ErrorTable(dict.fromkeys([InvalidRequest, StoreUnavailable, Overloaded, Exception], lambda _: refusal))
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            errors(Overloaded("9 wait"))
        errors(StoreUnavailable("no primary"))
        errors(InvalidRequest("no"))
    assert [(line["event"], line["reason"], line.get("refused")) for line in lines] == [
        ("overloaded", "9 wait", 1),
        ("store_unavailable", "no primary", None),
    ]


@pytest.mark.parametrize("request_line", [("POST", "/"), ("GET", f"/{uuid.UUID(int=1)}")])
async def test_without_a_database_callers_are_told_to_try_again(api: Api, request_line: tuple[str, str]) -> None:
    """503 with Retry-After, in the contract's shape."""
    api.store.up = False
    async with caller(api.app) as http:
        answer = await http.request(*request_line, content=b'{"object_id": "x"}')

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert list(answer.json()) == ["message"]
