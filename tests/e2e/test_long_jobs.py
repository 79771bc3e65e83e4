"""Handlers that run much longer than HASTY_OVERDUE_S: without a fault, each job is dispatched and started once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.stacks import metrics, running, services
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

WORK = Path(__file__).with_name("work.py")
ACK_WAIT_S = 3
# As short as it may be: it has to be above the acknowledgement wait, or a warning says so.
OVERDUE_S = 3.5
LASTS_S = 4 * OVERDUE_S


@pytest_asyncio.fixture(loop_scope="session")
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Two job-servers, so that a second dispatch would find somebody who knows nothing of the first."""
    environment = {
        "HASTY_ACK_WAIT_S": str(ACK_WAIT_S),
        "HASTY_OVERDUE_S": str(OVERDUE_S),
        "HASTY_WORK": str(WORK),
    }
    async with running(tmp_path, job_servers=2, environment=environment) as stack:
        yield stack


async def test_long_job_is_dispatched_and_started_once(stack: Stack, ports: httpx.AsyncClient) -> None:
    """Whichever way its handler runs: its worker says that it runs, so it is not overdue."""
    api_servers = services(stack, "api-server")
    async with httpx.AsyncClient(base_url=stack.url, timeout=40) as http:
        hasty = V1(http)

        async def served() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "long_process" and len(kind["workers"]) == 2 for kind in kinds)

        await eventually(served, within_s=60)
        telling = [await hasty.submit(kind, seconds=LASTS_S) for kind in ("long_async", "long_thread") for _ in "123"]
        silent = [await hasty.submit("long_process", seconds=LASTS_S)]
        job_ids = [job["id"] for job in (*telling, *silent)]

        ended = await asyncio.gather(*(hasty.ended(job_id) for job_id in job_ids))

        assert {job["status"] for job in ended} == {"finished"}
        assert [job["output"] for job in ended[: len(telling)]] == [1] * len(telling)
        assert await metrics(ports, api_servers, "hasty_jobs_dispatched_total") == [len(job_ids)]
        for job in ended:
            timeline = (await http.get(f"/v1/jobs/{job['id']}/timeline")).json()["data"]
            assert [event["event"] for event in timeline] == ["created", "started", "finished"]
