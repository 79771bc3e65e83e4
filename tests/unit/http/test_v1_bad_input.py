"""Every parameter, header and member of a body of `/v1`, given as garbage: a problem that says where."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.unit.http.v1_api import Api, caller, description_of, post, problem_of

JOB = {"kind": "greet", "input": {"name": "Ada"}}
UNKNOWN = "00000000-0000-7000-8000-000000000000"

GARBAGE: dict[str, list[str]] = {
    "wait": ["-1", "61", "nan", "inf", "1e999", "", "soon", "0x1", "1,5"],
    "limit": ["1000000000", "0", "-1", "1.5", "", "many", "9" * 5_000],
    "after": ["garbage", "", "run-", "run-x", "1-", f"-1-{UNKNOWN}", "9" * 64, f"{'9' * 15}-{UNKNOWN}", "a" * 10_000],
    "kind": ["", "A b", "a" * 65, "greet\n", "9", "$ne"],
    "status": ["", "done", "FINISHED", "finished,failed"],
    "key": ["", "k" * 257],
    "label": ["", "l" * 65],
    "batch": ["", "x", UNKNOWN.upper() + "0"],
    "since": ["", "yesterday", "0", "1e9", "2026-13-01T00:00:00Z", "2026-11-28T12:00:00", "2026-11-28"],
    "Idempotency-Key": ["", "a b", "k" * 201, "\xff"],
    "Last-Event-ID": ["", "garbage", "-1", "1.5", "9" * 30, "null"],
}
"""What no parameter or header of this name may be."""


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A caller of an api-server that knows kinds."""
    api = Api()
    await api.know_kinds()
    async with caller(api.app) as client:
        yield client


def requests(described: Any) -> Iterator[tuple[str, str, str, str]]:
    """Each parameter and header of each request: method, path, where it stands, and its name."""
    for path, item in described["paths"].items():
        for method, operation in item.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] != "path":
                    yield method, path.format(job_id=UNKNOWN, batch_id=UNKNOWN), parameter["in"], parameter["name"]


async def ask(http: httpx.AsyncClient, method: str, path: str, place: str, given: Any) -> httpx.Response:
    """Ask with these parameters, or headers; with a body where one belongs."""
    body = {"jobs": [JOB]} if path.endswith("batches") else JOB
    sent: dict[str, Any] = {"json": body} if method == "post" and path.endswith("s") else {}
    given = [(name, value.encode("latin-1")) for name, value in given] if place == "header" else given
    return await http.request(method, path, **{"headers" if place == "header" else "params": given}, **sent)


async def test_every_parameter_refuses_garbage(http: httpx.AsyncClient) -> None:
    """And names itself; there is garbage here for each that the description has."""
    tried = set()
    for method, path, place, name in requests(await description_of(Api())):
        for value in GARBAGE[name]:
            response = await ask(http, method, path, place, [(name, value)])
            assert problem_of(response) == (400, "malformed"), (path, name, value)
            assert response.json()["parameter"] == name
        tried.add(name)
    assert tried == set(GARBAGE)


async def test_every_parameter_stands_there_once(http: httpx.AsyncClient) -> None:
    """Given twice, even with the same value, it is refused by name."""
    good = {"wait": "0", "limit": "1", "after": "run-1", "status": "failed", "since": "2026-11-28T12:00:00Z"}
    for method, path, place, name in requests(await description_of(Api())):
        value = good.get(name, UNKNOWN if name == "batch" else "1")
        response = await ask(http, method, path, place, [(name, value), (name, value)])
        assert problem_of(response) == (400, "malformed"), (path, name)
        assert response.json()["parameter"] == name


async def test_no_request_takes_an_unknown_parameter(http: httpx.AsyncClient) -> None:
    """A misspelled one would be ignored otherwise."""
    for path, item in (await description_of(Api()))["paths"].items():
        for method in item:
            given = [("stat\x00us", "failed")]
            response = await ask(http, method, path.format(job_id=UNKNOWN, batch_id=UNKNOWN), "query", given)
            assert (problem_of(response), response.json()["parameter"]) == ((400, "malformed"), "stat\x00us")


BODIES: dict[str, tuple[Any, str]] = {
    "no object": ([], ""),
    "no kind": ({"input": 1}, "/kind"),
    "no input": ({"kind": "greet"}, "/input"),
    "kind": ({**JOB, "kind": "A b"}, "/kind"),
    "kind of another type": ({**JOB, "kind": ["greet"]}, "/kind"),
    "negative delay": ({**JOB, "delay_s": -1}, "/delay_s"),
    "delay as text": ({**JOB, "delay_s": "1"}, "/delay_s"),
    "long delay": ({**JOB, "delay_s": 10**9}, "/delay_s"),
    "part of an attempt": ({**JOB, "attempts": 1.5}, "/attempts"),
    "many attempts": ({**JOB, "attempts": 10**9}, "/attempts"),
    "labels as text": ({**JOB, "labels": "a"}, "/labels"),
    "nine labels": ({**JOB, "labels": ["a"] * 9}, "/labels"),
    "long label": ({**JOB, "labels": ["a", "l" * 65]}, "/labels/1"),
    "control character": ({**JOB, "labels": ["\x00"]}, "/labels/0"),
    "unknown member": ({**JOB, "a/b": 1}, "/a~1b"),
    "long unknown member": ({**JOB, "m" * 1_000: 1}, "/" + "m" * 199),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_body_is_told_where(http: httpx.AsyncClient, name: str) -> None:
    """Alone, and as one member of a batch, whose other members are made."""
    body, where = BODIES[name]
    response = await http.post("/v1/jobs", json=body)
    assert problem_of(response) == (400, "malformed")
    assert [error["pointer"] for error in response.json()["errors"]] == [where]

    results = (await http.post("/v1/batches", json={"jobs": [JOB, body, JOB]})).json()["results"]
    assert [result["status"] for result in results] == [201, 400, 201]
    assert results[1]["problem"] == response.json()


@pytest.mark.parametrize(
    ("body", "where"),
    [("[]", ""), ("{}", ""), ('{"jobs": {}}', ""), ('{"jobs": [], "x": 1}', ""), ('{"jobs": []}', "/jobs")],
)
async def test_bad_batch_is_told_where(http: httpx.AsyncClient, body: str, where: str) -> None:
    """It is none, or has no members."""
    response = await http.post("/v1/batches", content=body)
    assert problem_of(response) == (400, "malformed")
    assert [error["pointer"] for error in response.json()["errors"]] == [where]


async def test_batch_of_1001_is_refused(http: httpx.AsyncClient) -> None:
    """As a whole."""
    response = await http.post("/v1/batches", content=json.dumps({"jobs": [1] * 1_001}))
    assert (problem_of(response), response.json()["errors"][0]["pointer"]) == ((400, "malformed"), "/jobs")


async def test_input_that_does_not_fit_is_told_where(http: httpx.AsyncClient) -> None:
    """Within the input, and in a batch as alone."""
    response = await post(http, name=1)
    assert problem_of(response) == (422, "bad-input")
    assert [error["pointer"] for error in response.json()["errors"]] == ["/name"]
    bad = {"kind": "greet", "input": {"name": 1}}
    [first, second] = (await http.post("/v1/batches", json={"jobs": [bad, JOB]})).json()["results"]
    assert (first["problem"], second["status"]) == (response.json(), 201)
