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
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api_server.domain import Outcome, Status
from api_server.routes import Contract, make_app, make_framework_app
from api_server.service import Service
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
        self.whole = make_app(service, self.probes)
        self.framework = make_framework_app(Contract(service), self.probes)


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
    description = schemathesis.openapi.from_dict(api.framework.openapi())
    description.app = api.whole

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


@settings(max_examples=15, deadline=None)
@given(st.lists(requests, max_size=15))
async def test_both_lanes_answer_alike(asked: list[tuple[str, str, bytes]]) -> None:
    """The short way for nearly all of the load, and the framework's."""
    short, long = Api(), Api()
    async with caller(short.whole) as one, caller(long.framework) as other:
        for method, path, body in asked:
            answer = await one.request(method, path, content=body)
            assert answer.status_code < 500, (method, path, body)
            if path not in {"/metrics", "/healthz", "/readyz"}:
                expected = await other.request(method, path, content=body)
                assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
                assert sorted(answer.headers.multi_items()) == sorted(expected.headers.multi_items())


async def test_a_job_that_slept_whole_seconds_shows_a_whole_number(api: Api) -> None:
    """As the original does; a fraction is shown as one."""
    async with caller(api.whole) as http:
        for object_id, slept, shown in (("a", 17.0, b"17}"), ("b", 0.25, b"0.25}")):
            location = (await http.post("/", content=json.dumps({"object_id": object_id}))).headers["location"]
            await api.store.apply(Status.FINISHED, [Outcome(location[1:], Status.FINISHED, slept)], NOON)

            assert (await http.get(location)).content.endswith(b'"sleep_time_used":' + shown + b"}")


@pytest.mark.parametrize("request_line", [("POST", "/"), ("GET", f"/{uuid.UUID(int=1)}")])
async def test_without_a_database_callers_are_told_to_try_again(api: Api, request_line: tuple[str, str]) -> None:
    """503 with Retry-After, in the contract's shape."""
    api.store.up = False
    async with caller(api.whole) as http:
        answer = await http.request(*request_line, content=b'{"object_id": "x"}')

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert list(answer.json()) == ["message"]
