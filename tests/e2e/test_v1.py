"""`/v1` through nginx on a running system: two api-servers, and a worker that does what a test says."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hasty.jobs import Ending, Kind, Status, Turn, Way
from hasty.server.local_stack import Stack
from tests.e2e.fake_worker import NAME, Worker, ending_of, working
from tests.e2e.stacks import connections, running, services
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="module")]

NAMED = json.dumps({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
GREET = Kind("greet", Way.ASYNC, "v1", NAMED, '{"type": "string"}', attempts=3)
FETCH = Kind("fetch", Way.THREAD, "v1", NAMED, "{}", key="{name}", cooldown_s=30)


def work(turn: Turn) -> Ending | None:
    """Do what the input's name says."""
    assert turn.task is not None
    match json.loads(turn.task.input)["name"]:
        case "hang":
            return None
        case "flaky" if turn.number == 1:
            return ending_of(turn, Status.PROCESSING, error="not today", delay_s=0.2)
        case "broken":
            return ending_of(turn, Status.FAILED, error="never")
        case name:
            return ending_of(turn, output=json.dumps(f"hello {name}"))


@dataclass
class World:
    """The system, its worker, and a caller."""

    stack: Stack
    worker: Worker
    http: httpx.AsyncClient

    async def post(self, name: str, kind: str = "greet", query: str = "", **more: object) -> httpx.Response:
        """Post a job."""
        return await self.http.post(f"/v1/jobs{query}", json={"kind": kind, "input": {"name": name}, **more})

    async def job(self, job_id: str, query: str = "") -> Any:
        """A job that must exist."""
        response = await self.http.get(f"/v1/jobs/{job_id}{query}")
        assert response.status_code == 200, response.text
        return response.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A system with kinds that both of its api-servers know."""
    async with running(tmp_path_factory.mktemp("v1"), api_servers=2, job_servers=0, environment={}) as stack:
        [nats] = [child for child in stack.children.values() if child.role == "nats"]
        async with (
            working(nats.url, [GREET, FETCH], work) as worker,
            httpx.AsyncClient(base_url=stack.url, timeout=70) as http,
        ):
            made = World(stack, worker, http)
            await eventually(lambda: _all_know(made))
            yield made


async def _all_know(world: World) -> bool:
    async with httpx.AsyncClient() as http:
        for child in services(world.stack, "api-server"):
            kinds = (await http.get(f"http://{child.address}/v1/kinds")).json()["data"]
            assert {kind["name"] for kind in kinds if kind["workers"] == [NAME]} == {"greet", "fetch"}
    return True


async def test_posted_job_is_answered_with_its_outcome(world: World) -> None:
    """In one request, through a broker, a worker and either api-server."""
    for n in range(10):
        response = await world.post(f"Ada {n}", query="?wait=20", labels=["a"])
        body = response.json()
        assert (response.status_code, body["status"], body["output"]) == (201, "finished", f"hello Ada {n}")
        assert (body["worker"], body["labels"], body["phase"]) == (NAME, ["a"], None)


async def test_failed_attempt_is_followed_by_another(world: World) -> None:
    """The turn says again, and the next one finishes."""
    body = (await world.post("flaky", query="?wait=20")).json()
    assert (body["status"], body["attempt"], body["output"]) == ("finished", 2, "hello flaky")


async def test_failed_job_says_how(world: World) -> None:
    """With the worker's error."""
    body = (await world.post("broken", query="?wait=20")).json()
    assert (body["status"], body["output"]) == ("failed", None)
    assert (body["error"]["reason"], body["error"]["message"]) == ("exception", "never")


async def test_running_job_shows_progress_and_can_be_cancelled(world: World) -> None:
    """What the worker says reaches either api-server; the cancellation reaches the worker."""
    job_id = (await world.post("hang")).json()["id"]

    async def runs() -> Any:
        body = await world.job(job_id)
        assert body["phase"] == "running", body
        return body

    assert (await eventually(runs))["progress"] == {"done": 0.5, "note": "half"}
    waiting = [asyncio.create_task(world.job(job_id, "?wait=20")) for _ in range(6)]
    assert (await world.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
    assert {body["status"] for body in await asyncio.gather(*waiting)} == {"cancelled"}
    assert (await world.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200


async def test_delayed_job_waits_for_its_time(world: World) -> None:
    """It is scheduled until then, and can be cancelled before."""
    soon = (await world.post("soon", delay_s=1)).json()
    assert (soon["phase"], soon["due_at"] > soon["created_at"]) == ("scheduled", True)
    late = (await world.post("late", delay_s=3600)).json()
    await world.http.post(f"/v1/jobs/{late['id']}/cancel")

    assert (await world.job(soon["id"], "?wait=20"))["status"] == "finished"
    assert (await world.job(late["id"], "?wait=20"))["status"] == "cancelled"
    assert late["id"] not in {turn.job_id for turn in world.worker.seen}


async def test_many_posts_of_one_key_make_one_job(world: World) -> None:
    """Across both api-servers; everybody else is told which one."""
    answers = await asyncio.gather(*(world.post("hang", "fetch") for _ in range(50)))
    made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    taken = [answer.json()["job_id"] for answer in answers if answer.status_code == 409]
    assert (len(made), len(taken), set(taken)) == (1, 49, set(made))
    await world.http.post(f"/v1/jobs/{made[0]}/cancel")
    assert (await world.job(made[0], "?wait=20"))["status"] == "cancelled"


async def test_repeated_request_makes_one_job(world: World) -> None:
    """However many arrive at once, at whichever api-server."""
    body = {"kind": "greet", "input": {"name": "once"}}
    answers = await asyncio.gather(
        *(world.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}) for _ in range(20))
    )
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {answer.status_code for answer in answers} <= {200, 201}
    await world.job(answers[0].json()["id"], "?wait=20")
    assert [turn.task.input for turn in world.worker.seen if turn.task and "once" in turn.task.input] == [
        '{"name":"once"}'
    ]


async def test_hundreds_of_waiters_get_their_outcomes(world: World) -> None:
    """All at once, and each the outcome of its own job."""
    answers = await asyncio.gather(*(world.post(f"n{n}", query="?wait=30") for n in range(300)))
    assert [answer.json()["output"] for answer in answers] == [f"hello n{n}" for n in range(300)]


async def test_root_job_is_seen_by_v1(world: World) -> None:
    """And a job of a kind is not seen by the contract."""
    root = (await world.http.post("/", json={"object_id": "an object"})).json()["message"]["job_id"]
    assert (await world.job(root))["kind"] == "sleep"
    other = (await world.post("Ada", query="?wait=20")).json()["id"]
    assert (await world.http.get(f"/{other}")).status_code == 400


async def listed(world: World, **filters: object) -> list[Any]:
    """All jobs of a list, page by page."""
    found: list[Any] = []
    after: dict[str, str] = {}
    while True:
        query = {name: str(value) for name, value in filters.items()}
        page = (await world.http.get("/v1/jobs", params={**query, **after})).json()
        found += page["data"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


async def test_jobs_are_listed_newest_first(world: World) -> None:
    """By label, status, kind and key, through pages of any size."""
    posted = [(await world.post(f"l{n}", query="?wait=20", labels=["listed"])).json() for n in range(7)]
    broken = (await world.post("broken", query="?wait=20", labels=["listed"])).json()
    ids = [job["id"] for job in reversed([*posted, broken])]
    assert [job["id"] for job in await listed(world, label="listed", limit=3)] == ids
    assert [job["id"] for job in await listed(world, label="listed", status="failed")] == [broken["id"]]
    assert posted[0] == next(job for job in await listed(world, label="listed") if job["id"] == posted[0]["id"])
    keyed = (await world.post("a key", "fetch", "?wait=20")).json()
    assert [job["id"] for job in await listed(world, kind="fetch", key="a key")] == [keyed["id"]]


async def test_job_that_failed_is_repeated_as_a_new_one(world: World) -> None:
    """It says which one it repeats; the same request twice makes one; what is processing cannot be repeated."""
    old = (await world.post("broken", query="?wait=20", labels=["a"], attempts=2)).json()
    path, once = f"/v1/jobs/{old['id']}/retry", {"Idempotency-Key": f"again {old['id']}".replace(" ", "-")}
    made, again = [await world.http.post(path, headers=once) for _ in range(2)]
    assert (made.status_code, again.status_code) == (201, 200)
    new = made.json()
    assert new["id"] == again.json()["id"] != old["id"]
    assert (new["retry_of"], new["labels"], new["attempts"], new["input"]) == (old["id"], ["a"], 2, old["input"])
    hanging = (await world.post("hang")).json()["id"]
    refused = await world.http.post(f"/v1/jobs/{hanging}/retry")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hasty:problem:still-processing")
    await world.http.post(f"/v1/jobs/{hanging}/cancel")


async def test_timeline_tells_each_attempt(world: World) -> None:
    """When it began, how it failed, and what came in the end."""
    job = (await world.post("flaky", query="?wait=20")).json()
    timeline = (await world.http.get(f"/v1/jobs/{job['id']}/timeline")).json()
    told = [(event["event"], event["attempt"]) for event in timeline["data"]]
    assert told == [("created", 1), ("started", 1), ("attempt_failed", 1), ("started", 2), ("finished", 2)]
    assert timeline["data"][2]["detail"].endswith("not today")
    assert timeline["why"] == job["why"]


async def test_batch_makes_what_can_be_made(world: World) -> None:
    """Each member is answered by itself, also beyond one insert; the batch is waited for, cancelled and repeated."""
    jobs = [{"kind": "greet", "input": {"name": f"b{n}"}} for n in range(300)]
    bad = [{"kind": "greet", "input": {"name": 1}}, {"kind": "nobody", "input": 1}, 7]
    sent = {"json": {"jobs": [*jobs, *bad, {"kind": "greet", "input": {"name": "broken"}}]}}
    once = {"Idempotency-Key": "a-batch"}
    body, again = [(await world.http.post("/v1/batches", headers=once, **sent)).json() for _ in range(2)]  # type: ignore[arg-type]
    assert [result["status"] for result in body["results"]] == [201] * 300 + [422, 422, 400, 201]
    assert [result["status"] for result in again["results"]] == [200] * 300 + [422, 422, 400, 200]
    assert again["id"] == body["id"]
    assert body["results"][301]["problem"]["type"] == "urn:hasty:problem:unknown-kind"
    batch = (await world.http.get(f"/v1/batches/{body['id']}?wait=30")).json()
    assert batch["counts"] == {"processing": 0, "finished": 300, "failed": 1, "cancelled": 0}
    assert (await world.http.get(f"/v1/batches/{body['id']}")).json() == batch
    assert len(await listed(world, batch=body["id"], limit=100)) == 301
    retried = (await world.http.post(f"/v1/batches/{body['id']}/retry")).json()
    assert [result["job"]["retry_of"] for result in retried["results"]] == [body["results"][303]["job"]["id"]]
    hanging = {"jobs": [{"kind": "greet", "input": {"name": "hang"}} for _ in range(5)]}
    stuck = (await world.http.post("/v1/batches", json=hanging)).json()["id"]
    assert (await world.http.post(f"/v1/batches/{stuck}/cancel")).status_code == 202
    assert (await world.http.get(f"/v1/batches/{stuck}?wait=30")).json()["counts"]["cancelled"] == 5


async def test_largest_batch_passes_and_a_larger_one_does_not(world: World) -> None:
    """Of a megabyte, through nginx."""
    jobs = [{"kind": "greet", "input": {"name": "x" * 900 + str(n)}} for n in range(1_000)]
    large = await world.http.post("/v1/batches", json={"jobs": jobs})
    assert {result["status"] for result in large.json()["results"]} == {201}
    too_many = await world.http.post("/v1/batches", json={"jobs": [*jobs, jobs[0]]})
    assert (too_many.status_code, "1 to 1000" in too_many.json()["detail"]) == (400, True)
    too_long = await world.http.post("/v1/batches", content=b" " * (1024 * 1024 + 1))
    assert (too_long.status_code, too_long.json()["type"]) == (413, "urn:hasty:problem:too-large")


async def events_of(world: World, path: str) -> AsyncGenerator[tuple[str, Any], None]:
    """The events of a stream, without its comments."""
    async with world.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


async def test_job_is_watched_to_its_outcome(world: World) -> None:
    """Each change is an event with the whole job; the stream ends, and who comes back is told that it has ended."""
    job_id = (await world.post("hang")).json()["id"]
    seen: list[Any] = []
    async with asyncio.timeout(20):
        async for _, job in events_of(world, f"/v1/jobs/{job_id}"):
            seen.append(job)
            if job["phase"] == "running" and job["progress"]:
                await world.http.post(f"/v1/jobs/{job_id}/cancel")
    assert [job["status"] for job in seen].count("cancelled") == 1
    assert seen[-1] == await world.job(job_id)
    revisions = [job["revision"] for job in seen]
    assert revisions == sorted(revisions)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(revisions[-1])}
    assert (await world.http.get(f"/v1/jobs/{job_id}", headers=headers)).status_code == 204


async def test_list_is_watched(world: World) -> None:
    """What is created and what has ended, by whichever api-server, and nothing that does not match."""
    async with asyncio.timeout(30), aclosing(events_of(world, "/v1/jobs?label=watched")) as stream:
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1.5)  # it follows from its first look on, which nothing shows
        await world.post("not this one")
        posted = {(await world.post(f"w{n}", labels=["watched"])).json()["id"] for n in range(6)}
        ended: set[str] = set()
        name, job = await first
        while ended != posted:
            if name == "reload":
                # Too much has changed at once, as when another test made a thousand jobs.
                jobs = (await world.http.get("/v1/jobs?label=watched&status=finished")).json()["data"]
                ended |= {job["id"] for job in jobs}
            else:
                assert (name, job["id"] in posted) == ("job", True)
                ended |= {job["id"]} if job["status"] == "finished" else set()
            if ended != posted:
                name, job = await anext(stream)


async def test_overview_counts_what_was_accepted(world: World) -> None:
    """The ledger is whole, and the verdict is a sentence."""
    for n in range(5):
        await world.post(f"o{n}", query="?wait=20")

    async def shown() -> Any:
        overview = (await world.http.get("/v1/overview")).json()
        assert overview["accepted"] >= 5
        return overview

    overview = await eventually(shown)
    parts = ("processing", "finished", "failed", "cancelled")
    assert overview["accepted"] == sum(overview[part] for part in parts)
    assert overview["to_end_s"]["p50"] <= overview["to_end_s"]["p99"]
    assert overview["workers"] == 1
    async with aclosing(events_of(world, "/v1/overview")) as ticks:
        (name, ticked), (second, workers) = await anext(ticks), await anext(ticks)
    assert (second, len(workers["data"])) == ("workers", 1)
    assert (name, ticked["verdict"].endswith((".", "s", "way"))) == ("overview", True)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/v1/jobs?limit=1000000000", "limit"),
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?after=garbage", "cursor"),
        ("/v1/jobs?stat=failed", "'stat'"),
        ("/v1/jobs?kind=greet&kind=fetch", "2 times"),
        ("/v1/jobs?kind=A%20b", "kind"),
        ("/v1/jobs?status=done", "status"),
        ("/v1/jobs?since=yesterday", "since"),
        ("/v1/jobs?batch=x", "batch"),
        ("/v1/jobs/00000000-0000-7000-8000-000000000000?wait=-1", "wait"),
        ("/v1/dead-letters?limit=x", "limit"),
        ("/v1/workers?x=1", "'x'"),
    ],
)
async def test_bad_parameter_is_named(world: World, path: str, what: str) -> None:
    """With a problem that says which one it is."""
    response = await world.http.get(path)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (400, "urn:hasty:problem:malformed"), problem
    assert what in problem["detail"]


async def said(world: World, job_id: str, what: str) -> Any:
    """Whether both api-servers give this reason, or will soon."""

    async def shown() -> bool:
        async with httpx.AsyncClient() as http:
            for child in services(world.stack, "api-server"):
                why = (await http.get(f"http://{child.address}/v1/jobs/{job_id}")).json()["why"]
                assert re.search(what, why), why
        return True

    return await eventually(shown, within_s=30)


async def test_why_follows_a_job_through_its_life(world: World) -> None:
    """Scheduled, running, silent, and no worker at all: each on a running system, at both api-servers."""
    late = (await world.post("late", delay_s=3600)).json()["id"]
    await said(world, late, r"it starts in \d+ min, as requested")
    hanging = (await world.post("hang")).json()["id"]
    await said(world, hanging, r"attempt 1 of 3 runs on a-worker for \d+ s of at most 60 min, last sign 0\.\d s ago")
    world.worker.taking = False  # in time: what it has asked the broker for may still come for some seconds
    world.worker.running.clear()
    await said(world, hanging, r"its run on a-worker ended \d+ s ago; the ending has not arrived yet")
    world.worker.running[hanging] = next(turn for turn in world.worker.seen if turn.job_id == hanging)
    await said(world, hanging, "runs on a-worker")
    world.worker.muted = True
    await said(world, hanging, r"a-worker ran it and has been silent for \d+ s; another worker begins it in \w+ \d+ s")
    waiting = (await world.post("x")).json()["id"]
    await said(world, waiting, r"no worker serves greet; the last one left \d+ s ago")
    world.worker.muted, world.worker.full = False, True
    await said(world, waiting, r"it has waited for \d+ s: all places for greet are taken")
    world.worker.full, world.worker.taking = False, True
    for job_id in (late, hanging):
        await world.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (await world.job(waiting, "?wait=30"))["status"] == "finished"


async def test_stopping_api_server_answers_its_waiters(world: World) -> None:
    """At once, with the job as it is: nobody is cut off, and the server stops in time."""
    job_id = (await world.post("hang")).json()["id"]
    child = services(world.stack, "api-server")[1]
    async with httpx.AsyncClient(timeout=70) as http:
        url = f"http://{child.address}/v1/jobs/{job_id}?wait=60"
        waiting = [asyncio.create_task(http.get(url)) for _ in range(5)]
        await eventually(lambda: connections(child.pid) >= 5)
        await world.stack.scale("api-server", 1)
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*waiting)
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "processing")}
    await world.http.post(f"/v1/jobs/{job_id}/cancel")
    await world.stack.scale("api-server", 2)
