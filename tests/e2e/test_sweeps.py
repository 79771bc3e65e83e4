"""What is due is published by one of several api-servers."""

from pathlib import Path

import httpx
import pytest

from tests.e2e.client import Hasty
from tests.e2e.stacks import metric, running, services

pytestmark = [pytest.mark.own_stack]

JOBS = 150
QUICK_JOBS = {"HASTY_JOB_SLEEP_MIN_S": "0.1", "HASTY_JOB_SLEEP_MAX_S": "0.2"}
DISPATCHED = "hasty_jobs_dispatched_total"


async def test_two_api_servers_publish_what_is_due_once(tmp_path: Path) -> None:
    """Both notice at once that the broker is back, and only one of them sweeps: no job is counted twice."""
    async with (
        running(tmp_path, api_servers=2, environment=QUICK_JOBS) as stack,
        Hasty.at(stack.url) as hasty,
        httpx.AsyncClient() as ports,
    ):
        api_servers = services(stack, "api-server")

        async def dispatched(kind: str) -> list[float]:
            return [await metric(ports, child, DISPATCHED, kind=kind) for child in api_servers]

        broker = stack.children["nats"]
        await broker.stay_down()
        job_ids = await hasty.create_many(JOBS)
        accepted = [await metric(ports, child, "hasty_jobs_accepted_total") for child in api_servers]
        assert min(accepted) > 0
        assert sum(accepted) == JOBS

        await broker.start()
        await hasty.finished(job_ids, within_s=60)

        assert sum(await dispatched("first")) == 0
        assert sum(await dispatched("rescue")) == JOBS
