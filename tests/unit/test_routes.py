"""The HTTP contract in one process: what the description promises, and that no input makes an error of ours."""

import asyncio
import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api_server.domain import Outcome, Status
from api_server.routes import Contract, make_app
from api_server.service import Service
from runtime.http import Answer
from runtime.probes import Probes
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Api:
    """An api-server's application on fakes, with ids and times that are the same in every run."""

    def __init__(self) -> None:
        self.store = FakeJobStore(lambda: NOON)
        broker = FakeBroker()
        broker.ensure(50)
        numbers = itertools.count(1)
        service = Service(
            self.store,
            FakeJetStream(broker),
            now=lambda: NOON,
            cooldown=timedelta(seconds=300),
            overdue=timedelta(seconds=180),
            new_id=lambda: str(uuid.UUID(int=next(numbers))),
        )
        self.probes = Probes({})
        self.contract = Contract(service)
        self.app = make_app(self.contract, self.probes)


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
    description = schemathesis.openapi.from_dict(api.app.openapi())
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
    verb, target = method.encode(), path.encode()
    if not api.contract.takes(verb, target):
        return None
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    api.contract.answer(verb, target, body, answer.set_result)
    return await answer


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
            await api.store.apply(Status.FINISHED, [Outcome(location[1:], Status.FINISHED, slept)], NOON)

            assert (await http.get(location)).content.endswith(b'"sleep_time_used":' + shown + b"}")


@pytest.mark.parametrize("request_line", [("POST", "/"), ("GET", f"/{uuid.UUID(int=1)}")])
async def test_without_a_database_callers_are_told_to_try_again(api: Api, request_line: tuple[str, str]) -> None:
    """503 with Retry-After, in the contract's shape."""
    api.store.up = False
    async with caller(api.app) as http:
        answer = await http.request(*request_line, content=b'{"object_id": "x"}')

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert list(answer.json()) == ["message"]
