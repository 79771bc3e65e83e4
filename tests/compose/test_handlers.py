"""Handlers in containers: loaded from a folder beside the compose file, and kept to their own."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.compose.project import Project
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def http(project: Project) -> AsyncIterator[httpx.AsyncClient]:
    """A caller, once the kinds are known."""
    async with httpx.AsyncClient(base_url=project.url, timeout=40) as client:

        async def announced() -> bool:
            kinds = (await client.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "greet" and kind["workers"] for kind in kinds)

        await eventually(announced, within_s=30)
        yield client


async def run(http: httpx.AsyncClient, kind: str, **values: object) -> dict[str, Any]:
    """Post a job, and wait for its end."""
    response = await http.post("/v1/jobs", json={"kind": kind, "input": values}, params={"wait": 30})
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


@pytest.mark.parametrize(
    ("kind", "values", "output"),
    [("greet", {"name": "Ada"}, "hello Ada"), ("train", {"rows": 3}, 1.5), ("echo", {"a": 1}, {"a": 1})],
)
async def test_handlers_of_the_mounted_folder_run(
    http: httpx.AsyncClient, kind: str, values: dict[str, object], output: object
) -> None:
    """In every way of running."""
    job = await run(http, kind, **values)

    assert (job["status"], job["output"]) == ("finished", output)


async def test_handler_sees_no_settings_of_its_job_server(http: httpx.AsyncClient) -> None:
    """It runs as the service's user, who has no other rights."""
    output = (await run(http, "whoami"))["output"]

    assert output["settings"] == []
    assert output["user"] == 10001


async def test_poison_is_lost_in_containers_as_well(http: httpx.AsyncClient) -> None:
    """And the next job finds a child."""
    job = await run(http, "poison")

    assert (job["status"], job["error"]["reason"]) == ("failed", "lost")
    assert (await run(http, "greet", name="Ada"))["output"] == "hello Ada"


async def test_running_job_can_be_cancelled_in_containers(http: httpx.AsyncClient) -> None:
    """A request reaches the job-server through both accounts of the broker."""
    response = await http.post("/v1/jobs", json={"kind": "greet", "input": {"name": "Ada"}, "delay_s": 3600})
    job_id = response.json()["id"]

    assert (await http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202

    job = (await http.get(f"/v1/jobs/{job_id}", params={"wait": 30})).json()
    assert job["status"] == "cancelled"
