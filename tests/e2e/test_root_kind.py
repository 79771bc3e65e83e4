"""`HASTY_ROOT_KIND`: a handler behind the original's two requests, which answer as they always did."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.client import TOO_SOON, Hasty, new_object_id
from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

RUNS_S = 0.3
WORK = f"""
import asyncio
from hasty import Context, Fail, job

@job(timeout_s=1)
async def ship(object_id: str, ctx: Context) -> str:
    if object_id.startswith("late"):
        await asyncio.Event().wait()
    await asyncio.sleep({RUNS_S})
    if object_id.startswith("broken"):
        raise Fail("nothing to ship")
    if object_id.startswith("bug"):
        raise KeyError(object_id)
    return f"{{object_id}} in run {{ctx.run}}"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A system whose root kind is a handler."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "tasks.py").write_text(WORK)
    environment = {"HASTY_ROOT_KIND": "ship", "HASTY_WORK": str(folder / "tasks.py")}
    async with running(folder / "stack", job_servers=2, environment=environment) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[Hasty]:
    """A caller of a system that serves its root kind."""
    async with Hasty.at(stack.url) as caller:

        async def served() -> bool:
            kinds = (await caller.http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "ship" and kind["workers"] for kind in kinds)

        await eventually(served, within_s=60)
        yield caller


async def test_posted_object_is_the_handlers_input(hasty: Hasty) -> None:
    """The answer is the original's, to the letter; `/v1` has the output, under the handler's kind."""
    object_id = new_object_id()
    posted = await hasty.ask(object_id)
    job_id = posted.json()["message"]["job_id"]
    assert (posted.status_code, posted.headers["location"]) == (201, f"/{job_id}")
    assert (await hasty.ask(object_id)).content == TOO_SOON

    [job] = await hasty.finished([job_id])

    assert list(job) == ["id", "job_id", "object_id", "status", "timestamp", "sleep_time_used"]
    assert (job["object_id"], job["status"]) == (object_id, "finished")
    shown = await V1(hasty.http).job(job_id)
    assert (shown["kind"], shown["input"]) == ("ship", {"object_id": object_id})
    assert (shown["status"], shown["output"]) == ("finished", f"{object_id} in run 1")
    assert (await hasty.http.get("/v1/jobs", params={"kind": "ship"})).json()["data"][0]["id"] == job_id


async def test_sleep_time_used_is_how_long_the_handler_ran(hasty: Hasty) -> None:
    """By its worker's clock, without what the job waited; nothing while it is processing."""
    job_id = await hasty.create()
    seen = await hasty.job(job_id)
    assert seen["status"] == "finished" or seen["sleep_time_used"] == 0

    [job] = await hasty.finished([job_id])

    shown = await V1(hasty.http).job(job_id)
    ran = datetime.fromisoformat(shown["ended_at"]) - datetime.fromisoformat(shown["started_at"])
    assert RUNS_S <= job["sleep_time_used"] <= ran.total_seconds() + 0.002


@pytest.mark.parametrize(
    ("name", "reason", "at_least_s"),
    [("broken", "failed_by_handler", RUNS_S), ("bug", "exception", RUNS_S), ("late", "timeout", 1.0)],
)
async def test_failed_handler_is_told_as_cancelled(hasty: Hasty, name: str, reason: str, at_least_s: float) -> None:
    """The original knows no other ending that is not good; `/v1` says how it failed."""
    job_id = await hasty.create(f"{name} {new_object_id()}")

    [job] = await hasty.ended([job_id])

    assert job["status"] == "cancelled"
    assert job["sleep_time_used"] >= at_least_s
    shown = await V1(hasty.http).job(job_id)
    assert (shown["status"], shown["error"]["reason"]) == ("failed", reason)


async def test_cancelled_job_of_the_root_kind_is_told_as_cancelled(hasty: Hasty) -> None:
    """Both dialects agree on it."""
    job_id = await hasty.create(f"late {new_object_id()}")
    v1 = V1(hasty.http)
    assert (await v1.cancel(job_id)).status_code in {200, 202}

    [job] = await hasty.ended([job_id])

    assert job["status"] == "cancelled"
    assert (await v1.job(job_id))["status"] in {"cancelled", "failed"}
