"""One browser for all tests here, a system full of jobs, and one that is empty and may only be read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from hasty.server.local_stack import Stack
from tests.browser.browser import Watched, launched, watched
from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually

TASKS = Path(__file__).with_name("tasks.py")
KINDS = {"greet", "resize", "fetch", "send"}
MALFORMED = (
    b"",
    b"\xff\xfe\x00garbage",
    b"<script>document.title = 'taken'</script>",
    b"x" * 5_000,
    json.dumps({"subject": "job:finished", "job": {"id": "", "status": "exploded", "object_id": 7}}).encode(),
)
"""Messages about jobs that ended, of which no api-server can make anything; the latest is shown first."""


@dataclass(frozen=True)
class World:
    """A running system and a caller of it; `jobs` are the ids of jobs that were made before, by their states."""

    stack: Stack
    v1: V1
    jobs: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """As a person types it."""
        return self.stack.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Two job-servers with handlers, and a job in every state."""
    async with system_of_jobs(tmp_path_factory.mktemp("full")) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A system without handlers, in which browsers may only read."""
    folder = tmp_path_factory.mktemp("quiet")
    environment = {"HASTY_UI": "read", "HASTY_JOB_SLEEP_MIN_S": "0.1", "HASTY_JOB_SLEEP_MAX_S": "0.3"}
    async with world_of(folder, environment=environment) as made:
        yield made


@asynccontextmanager
async def system_of_jobs(folder: Path) -> AsyncIterator[World]:
    """Two job-servers with handlers, and a job in every state, until the block is left."""
    environment = {"HASTY_WORK": str(TASKS), "HASTY_ACK_WAIT_S": "8", "HASTY_ASYNC_SLOTS": "40"}
    async with world_of(folder, job_servers=2, environment=environment) as made:
        await eventually(lambda: all_serve(made.v1.http), within_s=60)
        made.jobs.update({state: job["id"] for state, job in (await fill(made.v1)).items()})
        await publish_malformed(made)
        yield made


@asynccontextmanager
async def world_of(folder: Path, **config: Any) -> AsyncIterator[World]:
    """A running system until the block is left."""
    async with running(folder, **config) as stack, httpx.AsyncClient(base_url=stack.url, timeout=70) as http:
        yield World(stack, V1(http))


@pytest_asyncio.fixture(loop_scope="session")
async def watch(browser: Browser, world: World) -> AsyncIterator[Watched]:
    """A page of the full system."""
    async with watched(browser, world.url) as one:
        yield one


async def all_serve(http: httpx.AsyncClient) -> bool:
    """Whether both job-servers serve every kind."""
    kinds = (await http.get("/v1/kinds")).json()["data"]
    assert {kind["name"] for kind in kinds if len(kind["workers"]) == 2} >= KINDS, kinds
    return True


async def publish_malformed(world: World) -> None:
    """Publish what cannot be processed, one by one, until all of it is a dead letter."""
    client = await nats.connect(world.stack.children["nats"].url)
    try:
        for n, message in enumerate(MALFORMED, start=1):
            await client.jetstream().publish("job:finished", message)

            async def is_dead(count: int = n) -> bool:
                return len((await world.v1.http.get("/v1/dead-letters")).json()["data"]) == count

            await eventually(is_dead, within_s=30)
    finally:
        await client.close()


async def fill(v1: V1) -> dict[str, Any]:
    """Make a job in every state; by what it is for."""
    made = {
        "finished": await v1.submit("greet", wait=30, name="Ada"),
        "failed": await v1.submit("fetch", wait=30, url="u", fails=9),
        "refused": await v1.submit("send", wait=30, to="nobody"),
        "retried": await v1.submit("fetch", wait=30, url="u", fails=1),
        "running": await v1.submit("resize", url="long", seconds=600),
        "scheduled": (await v1.ask("greet", input={"name": "later"}, delay_s=3600, labels=["later"])).json(),
    }
    cancelled = (await v1.ask("greet", input={"name": "never"}, delay_s=3600)).json()
    await v1.cancel(cancelled["id"])
    made["cancelled"] = await v1.ended(cancelled["id"])
    assert made["failed"]["status"] == made["refused"]["status"] == "failed"
    return made
