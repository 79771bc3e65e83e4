"""`/v1` in one process, on fakes: what is described is true, and every error is a problem of a known type."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hasty.jobs import Failure, Reason, Status
from tests.eventually import eventually
from tests.unit.api_server.v1_world import GREET, pulse
from tests.unit.http.v1_api import PROBLEM, Api, caller, description_of, post, problem_of


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


def test_every_request_is_answered_as_described() -> None:
    """By status, headers and shape; no input, valid or not, is answered with a 5xx."""
    api = Api()
    asyncio.run(api.know_kinds())
    described = asyncio.run(description_of(api))
    # One second of waiting for each example would be a minute.
    for path in described["paths"].values():
        for operation in path.values():
            operation["parameters"] = [one for one in operation.get("parameters", []) if one["name"] != "wait"]
    description = schemathesis.openapi.from_dict(described)
    description.app = api.app

    @settings(max_examples=150, deadline=None)
    @given(case=description.as_strategy())
    def ask(case: Case[Any]) -> None:
        # A kind decides what its input may be, so what the description allows may be refused with 422.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        assert response.status_code < 500
        if response.status_code >= 400:
            assert response.headers["content-type"] == [PROBLEM]

    ask()


async def test_new_job_is_shown_with_every_field(api: Api, http: httpx.AsyncClient) -> None:
    """As DESIGN has them, times with milliseconds in UTC."""
    response = await post(http, more={"labels": ["a"], "attempts": 5}, name="Ada")

    body = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/jobs/{body['id']}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("created_at"))
    assert body.pop("why")
    assert body == {
        "id": next(iter(api.world.store.jobs)),
        "kind": "greet",
        "key": None,
        "status": "processing",
        "phase": "queued",
        "attempt": 1,
        "attempts": 5,
        "input": {"name": "Ada"},
        "output": None,
        "error": None,
        "progress": None,
        "due_at": None,
        "started_at": None,
        "ended_at": None,
        "worker": None,
        "version": None,
        "labels": ["a"],
        "batch": None,
        "retry_of": None,
        "revision": 4,
    }


async def test_running_job_shows_what_its_worker_says(api: Api, http: httpx.AsyncClient) -> None:
    """Progress, worker, and when it started."""
    job_id = (await post(http, name="Ada")).json()["id"]
    api.parts.workers.hear(pulse(api.world.store.jobs[job_id]))

    body = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert (body["phase"], body["worker"], body["version"]) == ("running", "w-1", "v1")
    assert body["progress"] == {"done": 0.5, "note": "half"}
    assert body["started_at"] == body["created_at"]
    assert body["why"].startswith("attempt 1 of 3 runs on w-1 for 0 s of at most 2 min, last sign 0.")


async def test_sleeping_job_shows_its_worker(api: Api, http: httpx.AsyncClient) -> None:
    """The built-in kind has no version."""
    made = await http.post("/v1/jobs", json={"kind": "sleep", "input": {"object_id": "x"}})
    job_id = made.json()["id"]
    slept_at = api.world.store.jobs[job_id].created_at.timestamp()
    told = {**json.loads(pulse(sleep=3)), "asleep": {job_id: slept_at}}
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["phase"] == "queued"
    api.parts.workers.hear(json.dumps(told).encode())

    body = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert (body["phase"], body["worker"], body["version"], body["progress"]) == ("running", "w-1", None, None)
    assert body["started_at"] == body["created_at"]
    assert body["why"].startswith("attempt 1 of 1 runs on w-1 for 0 s, last sign 0.")
    events = (await http.get(f"/v1/jobs/{job_id}/timeline")).json()["data"]
    assert [(event["event"], event["run"], event["worker"]) for event in events] == [
        ("created", None, None),
        ("started", None, "w-1"),
    ]


async def test_outcome_shows_output_and_error(api: Api, http: httpx.AsyncClient) -> None:
    """Each as the worker reported it; an output that is no JSON is left out."""
    ids = [(await post(http, name=name)).json()["id"] for name in ("Ada", "Bob", "Cy")]
    await api.world.end(api.parts, ids[0], output='{"b":1,"a":[1.50]}')
    failure = Failure(Reason.TIMEOUT, "TimeoutError", "after 3 s", "Traceback ...")
    await api.world.end(api.parts, ids[1], Status.FAILED, failure=failure)
    await api.world.end(api.parts, ids[2], output="{no")

    first, second, third = [await http.get(f"/v1/jobs/{job_id}") for job_id in ids]
    assert '"output":{"b":1,"a":[1.50]}' in first.text
    assert (first.json()["status"], first.json()["phase"]) == ("finished", None)
    assert second.json()["status"] == "failed"
    assert second.json()["error"]["reason"] == "timeout"
    assert third.json()["output"] is None


async def test_waiting_for_a_job_shows_its_outcome(api: Api, http: httpx.AsyncClient) -> None:
    """For a POST and for a GET alike."""
    looking = asyncio.create_task(api.parts.watch.run())
    posting = asyncio.create_task(http.post("/v1/jobs?wait=30", json={"kind": "greet", "input": {"name": "Ada"}}))
    await eventually(lambda: len(api.parts.watch) == 1)
    [job_id] = api.world.store.jobs
    reading = asyncio.create_task(http.get(f"/v1/jobs/{job_id}?wait=30"))
    await eventually(lambda: len(api.parts.watch) == 2)
    await api.world.end(api.parts, job_id, output="1")

    assert [(answer.status_code, answer.json()["output"]) for answer in (await posting, await reading)] == [
        (201, 1),
        (200, 1),
    ]
    looking.cancel()


async def test_cancel_says_whether_the_job_had_ended(api: Api, http: httpx.AsyncClient) -> None:
    """202 while it has not; 200 with its outcome; 404 where there is none."""
    job_id = (await post(http, name="Ada")).json()["id"]
    asked = await http.post(f"/v1/jobs/{job_id}/cancel")
    assert (asked.status_code, asked.json()["phase"]) == (202, "cancelling")
    await api.world.end(api.parts, job_id, Status.CANCELLED)
    late = await http.post(f"/v1/jobs/{job_id}/cancel")
    assert (late.status_code, late.json()["status"]) == (200, "cancelled")
    assert problem_of(await http.post("/v1/jobs/x/cancel")) == (404, "no-such-job")


async def test_repeated_request_is_marked_as_one(http: httpx.AsyncClient) -> None:
    """Same key and body: the same job; another body: a problem."""
    key = {"Idempotency-Key": "k"}
    body = {"kind": "greet", "input": {"name": "Ada"}}
    first, again = [await http.post("/v1/jobs", json=body, headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = await http.post("/v1/jobs", json={**body, "labels": ["b"]}, headers=key)
    assert problem_of(other) == (422, "idempotency-mismatch")


@pytest.mark.parametrize("batch_first", [True, False])
async def test_keys_of_batches_and_of_jobs_are_separate(http: httpx.AsyncClient, *, batch_first: bool) -> None:
    """Whatever key a job has, it is none of a member of a batch, nor the batch's own."""
    body = {"kind": "greet", "input": {"name": "Ada"}}

    async def job(key: str) -> str:
        answer = await http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["id"]
        return made

    async def batch(status: int) -> list[str]:
        answer = await http.post("/v1/batches", json={"jobs": [body, body]}, headers={"Idempotency-Key": "k"})
        results = answer.json()["results"]
        assert [result["status"] for result in results] == [status, status], answer.text
        return [result["job"]["id"] for result in results]

    members = await batch(201) if batch_first else []
    jobs = [await job(key) for key in ("k", "k/0", "k/1", "k/batch", "k:0")]
    members = members or await batch(201)
    assert len({*members, *jobs}) == 7
    assert await batch(200) == members


@pytest.mark.parametrize("key", ["k 0", "k batch", "k\t0"])
async def test_idempotency_key_has_no_spaces(http: httpx.AsyncClient, key: str) -> None:
    """They separate a batch's key from its member's number."""
    body = {"kind": "greet", "input": {"name": "Ada"}}
    refused = await http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert problem_of(refused) == (400, "malformed")


async def test_taken_key_names_the_job_that_has_it(http: httpx.AsyncClient) -> None:
    """In the body and as Location, with when to come back."""
    holder = (await post(http, "fetch", url="u")).json()["id"]
    refused = await post(http, "fetch", url="u")
    assert problem_of(refused) == (409, "key-taken")
    assert refused.json()["job_id"] == holder
    assert refused.headers["location"] == f"/v1/jobs/{holder}"
    assert refused.headers["retry-after"] == "60"


async def test_root_jobs_are_jobs_of_their_kind(http: httpx.AsyncClient) -> None:
    """What is posted with POST / is seen here; a job of another kind is not seen there."""
    root = (await http.post("/", json={"object_id": "x"})).json()["message"]["job_id"]
    body = (await http.get(f"/v1/jobs/{root}")).json()
    assert (body["kind"], body["key"], body["input"]) == ("sleep", "x", {"object_id": "x"})

    other = (await post(http, name="Ada")).json()["id"]
    assert (await http.get(f"/{other}")).status_code == 400
    assert (await http.get(f"/{root}")).status_code == 200


async def test_failed_root_job_is_cancelled_for_the_contract(api: Api, http: httpx.AsyncClient) -> None:
    """The original knows no job that failed."""
    root = (await http.post("/", json={"object_id": "x"})).json()["message"]["job_id"]
    job = api.world.store.jobs[root]
    api.world.store.jobs[root] = replace(job, status=Status.FAILED)
    assert (await http.get(f"/{root}")).json()["message"]["status"] == "cancelled"
    assert (await http.get(f"/v1/jobs/{root}")).json()["status"] == "failed"


async def test_kinds_say_what_they_take_and_who_serves_them(api: Api, http: httpx.AsyncClient) -> None:
    """The root kind is among them."""
    api.parts.workers.hear(pulse())
    kinds = {kind["name"]: kind for kind in (await http.get("/v1/kinds")).json()["data"]}
    assert list(kinds) == ["fetch", "greet", "sleep"]
    assert kinds["greet"]["input_schema"] == json.loads(GREET.input_schema)
    assert (kinds["greet"]["workers"], kinds["greet"]["free_slots"]) == (["w-1"], 7)
    assert (kinds["fetch"]["key"], kinds["fetch"]["workers"]) == ("{url}", [])
    assert (kinds["sleep"]["workers"], kinds["sleep"]["free_slots"]) == ([], 0)


async def test_built_in_kind_is_served_by_those_that_sleep(api: Api, http: httpx.AsyncClient) -> None:
    """Behind the kinds of handlers, whose version is the worker's."""
    api.parts.workers.hear(pulse(worker="w-1"))
    api.parts.workers.hear(pulse(worker="w-2", sleep=3))
    kinds = {kind["name"]: kind for kind in (await http.get("/v1/kinds")).json()["data"]}
    assert (kinds["sleep"]["workers"], kinds["sleep"]["free_slots"]) == (["w-2"], 3)
    assert kinds["greet"]["workers"] == ["w-1", "w-2"]
    sleeps = (await http.get("/v1/workers")).json()["data"][1]
    assert (list(sleeps["kinds"].items()), sleeps["free_slots"]) == (
        [("greet", "v1"), ("sleep", "")],
        {"greet": 7, "sleep": 3},
    )


async def test_workers_say_what_they_serve(api: Api, http: httpx.AsyncClient) -> None:
    """As they said last."""
    api.parts.workers.hear(pulse())
    [worker] = (await http.get("/v1/workers")).json()["data"]
    assert (worker["worker"], worker["silent"], worker["kinds"], worker["free_slots"]) == (
        "w-1",
        False,
        {"greet": "v1"},
        {"greet": 7},
    )
    assert (worker["free_places"], worker["elsewhere_in_s"]) == (7, None)


async def test_worker_with_handlers_says_what_sleeps_beside_them(api: Api, http: httpx.AsyncClient) -> None:
    """Where it only sleeps, what it holds takes its places, and nothing is beside them."""
    told = {**json.loads(pulse(sleep=3)), "asleep": {"a": 1.0, "b": 2.0}, "held": 2}
    only_sleeps = {**told, "worker": "w-2", "kinds": {}, "slots": {}}
    for each in (told, only_sleeps):
        api.parts.workers.hear(json.dumps(each).encode())
    shown = (await http.get("/v1/workers")).json()["data"]
    assert [(worker["worker"], worker["running"], worker["sleeping"]) for worker in shown] == [
        ("w-1", 0, 2),
        ("w-2", 2, 0),
    ]


async def test_silent_worker_says_when_its_jobs_begin_elsewhere(api: Api, http: httpx.AsyncClient) -> None:
    """After the ack wait, which is 50 s here."""
    api.parts.workers.hear(pulse())
    api.parts.workers.all()[0].heard_at -= 10
    [worker] = (await http.get("/v1/workers")).json()["data"]
    assert worker["silent"]
    assert 39 < worker["elsewhere_in_s"] <= 40


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    given=json_values,
    more=st.dictionaries(st.sampled_from(["kind", "delay_s", "attempts", "labels", "input"]), json_values),
)
async def test_accepted_input_is_shown_as_it_came(given: object, more: dict[str, object]) -> None:
    """Any JSON a schema allows; nothing is answered with a 5xx."""
    api = Api()
    await api.world.announced(api.parts, replace(GREET, name="any", input_schema="{}"))
    async with caller(api.app) as http:
        body = json.dumps({"kind": "any", "input": given, **more}).encode("utf-8", "surrogatepass")
        response = await http.post("/v1/jobs", content=body)
    if response.status_code == 201:
        assert response.json()["input"] == json.loads(body)["input"]
    else:
        problem_of(response)
        assert response.status_code < 500


async def test_caller_that_hangs_up_stops_waiting(api: Api) -> None:
    """Its place among those who wait is free again at once."""
    async with caller(api.app) as http:
        job_id = (await post(http, name="Ada")).json()["id"]
    gone = asyncio.Event()
    sent: list[int] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append(1)
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": f"/v1/jobs/{job_id}",
        "query_string": b"wait=60",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("hasty", 80),
        "client": None,
        "root_path": "",
    }
    asking = asyncio.create_task(api.app(scope, receive, send))
    await eventually(lambda: len(api.parts.watch) == 1)
    gone.set()
    await eventually(lambda: len(api.parts.watch) == 0)
    await asking
