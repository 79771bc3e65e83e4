"""Retention of seconds on a whole system: what ended is forgotten in both databases, and what counts stays."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from hasty.server.local_stack import Stack
from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack, pytest.mark.starts_first]

WORK = Path(__file__).with_name("work.py")
KEPT_S = 4


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two api-servers that forget within seconds, and two job-servers."""
    environment = {"HASTY_WORK": str(WORK), "HASTY_RETENTION_DAYS": str(KEPT_S / 86_400), "HASTY_COOLDOWN_S": "1"}
    folder = tmp_path_factory.mktemp("retention")
    async with running(folder, api_servers=2, job_servers=2, environment=environment) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[V1]:
    """A caller of a system that knows its kinds."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=40) as http:

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "greet" and kind["workers"] for kind in kinds)

        await eventually(announced, within_s=30)
        yield V1(http)


async def test_ended_jobs_are_forgotten_everywhere(stack: Stack, hasty: V1) -> None:
    """A job of several turns among them; a job that is under way, and one that holds its key's place, stay."""
    waiting = (await hasty.ask("greet", input={"name": "Ada"}, delay_s=3600)).json()
    resting = await hasty.submit("resize", wait=20, url="a picture", width=3)
    keyed = {"Idempotency-Key": "once"}
    first = await hasty.http.post("/v1/jobs?wait=20", json={"kind": "greet", "input": {"name": "Bob"}}, headers=keyed)
    flaky = await hasty.submit("flaky", wait=20, fails=1)
    gone = [first.json()["id"], flaky["id"]]

    async def forgotten() -> bool:
        answers = [await hasty.http.get(f"/v1/jobs/{job_id}") for job_id in gone]
        return all(answer.status_code == 404 for answer in answers)

    await eventually(forgotten, within_s=60)
    url = f"{stack.children['job-mongo'].url}&directConnection=true&retryWrites=false"
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(url)
    async with client:
        outcomes = client["hasty_job"]["outcomes"]

        async def left() -> bool:
            ids = await outcomes.distinct("_id")
            return not any(str(one).startswith(tuple(gone)) for one in ids)

        await eventually(left, within_s=60)

    assert (await hasty.job(waiting["id"]))["phase"] == "scheduled"
    assert (await hasty.job(resting["id"]))["output"] == {"bytes": 1}
    again = await hasty.http.post("/v1/jobs", json={"kind": "greet", "input": {"name": "Eve"}}, headers=keyed)
    assert again.status_code == 201, again.text


async def test_key_whose_cooldown_is_over_is_forgotten(hasty: V1) -> None:
    """And may have a job again, as if it had never had one."""
    created = await hasty.http.post("/", json={"object_id": "an object"})
    job_id = created.json()["message"]["job_id"]

    async def forgotten() -> bool:
        return (await hasty.http.get(f"/{job_id}")).status_code == 400

    await eventually(forgotten, within_s=120)

    assert (await hasty.http.post("/", json={"object_id": "an object"})).status_code == 201
