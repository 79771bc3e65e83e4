"""Handlers of every way of running, on a whole system, with its processes killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio

from hasty.server.local_stack import Child, Stack
from tests.e2e.stacks import running, services
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

ACK_WAIT_S = 3
WORK = Path(__file__).with_name("work.py")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two job-servers with handlers, whose silence of three seconds means death."""
    environment = {"HASTY_ACK_WAIT_S": str(ACK_WAIT_S), "HASTY_WORK": str(WORK), "HASTY_JOB_SLEEP_MIN_S": "1"}
    async with running(tmp_path_factory.mktemp("handlers"), job_servers=2, environment=environment) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[V1]:
    """A caller of a system that knows its kinds."""
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=stack.url, timeout=40, limits=limits) as http:

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "greet" and kind["workers"] for kind in kinds)

        await eventually(announced, within_s=30)
        yield V1(http)


def children_of(job_server: Child) -> list[psutil.Process]:
    """The child processes with handlers of a job-server."""
    assert job_server.pid is not None
    return psutil.Process(job_server.pid).children()


@pytest.mark.parametrize(
    ("kind", "values", "output"),
    [
        ("greet", {"name": "Ada"}, "hello Ada"),
        ("resize", {"url": "a picture", "width": 3}, {"bytes": 1}),
        ("train", {"rows": 3}, 1.5),
        ("thumb", {"url": "ü"}, {"url": "ü"}),
    ],
)
async def test_every_way_of_running_gives_its_output(
    hasty: V1, kind: str, values: dict[str, object], output: object
) -> None:
    """One request is enough: posted, waited for, answered."""
    job = await hasty.submit(kind, wait=20, **values)

    assert (job["status"], job["output"], job["error"], job["attempt"]) == ("finished", output, None, 1)
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert job == await hasty.job(job["id"])


async def test_fail_ends_a_job_whatever_its_policy(hasty: V1) -> None:
    """Its text is the error's."""
    job = await hasty.submit("resize", wait=20, url="another picture", width=9001)

    assert (job["status"], job["attempt"], job["attempts"]) == ("failed", 1, 5)
    assert job["error"] == {"reason": "failed_by_handler", "type": "Fail", "message": "too wide", "traceback": ""}


async def test_failed_attempts_are_repeated(hasty: V1) -> None:
    """Until one succeeds, or the last one has failed."""
    posted = await hasty.submit("flaky", fails=2)
    hopeless = await hasty.ask("flaky", input={"fails": 9}, attempts=2)

    job = await hasty.ended(posted["id"])
    assert (job["status"], job["output"], job["attempt"]) == ("finished", 3, 3)
    failed = await hasty.ended(hopeless.json()["id"])
    assert (failed["status"], failed["attempt"], failed["attempts"]) == ("failed", 2, 2)
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ConnectionError", "attempt 2")
    assert "in flaky" in failed["error"]["traceback"]


async def test_snoozed_job_comes_again_without_spending_attempts(hasty: V1) -> None:
    """As often as it asks to."""
    posted = await hasty.submit("later", until=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())

    job = await hasty.ended(posted["id"])

    assert (job["status"], job["output"], job["attempt"]) == ("finished", "now", 1)
    assert datetime.fromisoformat(job["ended_at"]) - datetime.fromisoformat(job["created_at"]) > timedelta(seconds=2)


async def test_job_that_takes_too_long_fails(hasty: V1) -> None:
    """With the reason."""
    job = await hasty.submit("slow", wait=20)

    assert (job["status"], job["error"]["reason"]) == ("failed", "timeout")


async def test_delayed_job_waits_for_its_time(hasty: V1) -> None:
    """It says that it is scheduled, and since when it is due."""
    response = await hasty.ask("greet", input={"name": "Ada"}, delay_s=2)
    posted = response.json()
    assert (posted["status"], posted["phase"]) == ("processing", "scheduled")

    job = await hasty.ended(posted["id"])

    started = datetime.fromisoformat(job["started_at"]) - datetime.fromisoformat(job["created_at"])
    assert timedelta(seconds=2) <= started < timedelta(seconds=20)


async def test_progress_is_shown_while_a_job_runs(hasty: V1) -> None:
    """With its note, and with the worker that runs it."""
    posted = await hasty.submit("long_async", seconds=30)
    await hasty.running(posted["id"])

    async def told() -> bool:
        job = await hasty.job(posted["id"])
        return bool(job["progress"] == {"done": 0.5, "note": "on it"} and job["worker"])

    await eventually(told)
    await hasty.cancel(posted["id"])
    assert (await hasty.ended(posted["id"]))["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["long_async", "long_thread", "long_process", "long_command"])
async def test_running_job_can_be_cancelled(hasty: V1, kind: str) -> None:
    """Whichever way it runs, within its grace."""
    posted = await hasty.submit(kind, **({} if kind == "long_command" else {"seconds": 60}))
    await hasty.running(posted["id"])

    assert (await hasty.cancel(posted["id"])).status_code == 202

    job = await hasty.ended(posted["id"], within_s=25)
    assert (job["status"], job["output"], job["error"]) == ("cancelled", None, None)
    assert (await hasty.cancel(posted["id"])).status_code == 200


async def test_delayed_job_can_be_cancelled(hasty: V1) -> None:
    """It never begins."""
    response = await hasty.ask("greet", input={"name": "Ada"}, delay_s=3600)
    job_id = response.json()["id"]

    await hasty.cancel(job_id)

    job = await hasty.ended(job_id)
    assert (job["status"], job["started_at"]) == ("cancelled", None)


async def test_sleeping_job_can_be_cancelled(hasty: V1) -> None:
    """A job of the root kind is a job as any other."""
    response = await hasty.http.post("/", json={"object_id": "to be cancelled"})
    job_id = response.json()["message"]["job_id"]

    await hasty.cancel(job_id)

    assert (await hasty.ended(job_id))["status"] == "cancelled"
    assert (await hasty.http.get(f"/{job_id}")).json()["message"]["status"] == "cancelled"


async def test_job_of_another_kind_does_not_exist_for_the_contract(hasty: V1) -> None:
    """The original's two requests know the original's jobs."""
    job = await hasty.submit("greet", wait=20, name="Ada")

    response = await hasty.http.get(f"/{job['id']}")

    assert (response.status_code, response.json()) == (400, {"message": f"no job with id: {job['id']}"})


async def test_killed_child_costs_its_jobs_a_second_run(stack: Stack, hasty: V1) -> None:
    """All of them finish, and can tell."""
    posted = [await hasty.submit("long_async", seconds=4) for _ in range(20)]
    await asyncio.gather(*(hasty.running(job["id"]) for job in posted))

    killed = [child for job_server in services(stack, "job-server") for child in children_of(job_server)]
    for child in killed:
        child.kill()

    jobs = await asyncio.gather(*(hasty.ended(job["id"]) for job in posted))
    assert {(job["status"], job["output"]) for job in jobs} == {("finished", 2)}


@pytest.mark.parametrize("victims", [1, 2])
async def test_jobs_of_killed_job_servers_finish(stack: Stack, hasty: V1, victims: int) -> None:
    """By another one, or when they are back; each job can tell that it may have run before."""
    posted = [await hasty.submit("long_async", seconds=5) for _ in range(20)]
    await asyncio.gather(*(hasty.running(job["id"]) for job in posted))

    for job_server in services(stack, "job-server")[:victims]:
        await job_server.kill()

    jobs = await asyncio.gather(*(hasty.ended(job["id"]) for job in posted))
    assert {job["status"] for job in jobs} == {"finished"}
    outputs = {job["output"] for job in jobs}
    assert max(outputs) >= 2
    if victims == 2:
        assert min(outputs) >= 2


async def test_poison_job_fails_and_its_neighbours_finish(hasty: V1) -> None:
    """Other kinds never notice."""
    beside = [await hasty.submit("long_async", seconds=3) for _ in range(20)]
    poison = await hasty.submit("poison")

    job = await hasty.ended(poison["id"])
    neighbours = await asyncio.gather(*(hasty.ended(one["id"]) for one in beside))

    assert (job["status"], job["error"]["reason"]) == ("failed", "lost")
    assert {one["status"] for one in neighbours} == {"finished"}
    assert (await hasty.submit("greet", wait=20, name="Ada"))["output"] == "hello Ada"


async def test_output_of_handlers_is_in_the_log(stack: Stack, hasty: V1) -> None:
    """Each line bound to its job."""
    job = await hasty.submit("thumb", wait=20, url="u")

    def lines() -> list[dict[str, object]]:
        found = []
        for job_server in services(stack, "job-server"):
            found += [json.loads(line) for line in job_server.log.read_text().splitlines() if job["id"] in line]
        return [line for line in found if line["event"] == "handler_output"]

    (line,) = await eventually(lines)
    assert (line["line"], line["kind"], line["stream"]) == ("made", "thumb", "stderr")
