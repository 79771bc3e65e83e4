"""Killed job-servers: what they had in work is done by others, and nothing that lives is done twice."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.client import Hasty
from tests.e2e.stacks import metrics, running, services
from tests.eventually import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

ACK_WAIT_S = 3
# Longer than the acknowledgement wait, so that only the signs of life keep a job its worker's.
SLEEP_S = 4
# Silence until the job is another's, its sleep, and the time a redelivery or a restart takes on a busy machine. It
# stays far below the 180 s after which an api-server would dispatch a job without news again.
RECOVERED_WITHIN_S = ACK_WAIT_S + SLEEP_S + 15


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two job-servers whose silence of three seconds means death."""
    environment = {
        "HASTY_ACK_WAIT_S": str(ACK_WAIT_S),
        "HASTY_JOB_SLEEP_MIN_S": str(SLEEP_S),
        "HASTY_JOB_SLEEP_MAX_S": str(SLEEP_S),
    }
    async with running(tmp_path_factory.mktemp("crashes"), job_servers=2, environment=environment) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack, ports: httpx.AsyncClient) -> AsyncIterator[Hasty]:
    """A caller of a stack in which nobody works, whatever test came before."""
    await eventually(lambda: _held(stack, ports, 0), within_s=30)
    async with Hasty.at(stack.url) as caller:
        yield caller


async def _held(stack: Stack, ports: httpx.AsyncClient, count: int) -> bool:
    """Whether the job-servers hold so many jobs between them."""
    return sum(await metrics(ports, services(stack, "job-server"), "hasty_jobs_held")) == count


async def test_the_jobs_of_a_killed_job_server_are_finished_by_another(
    stack: Stack, hasty: Hasty, ports: httpx.AsyncClient
) -> None:
    """Seconds after kill -9, not minutes: the broker hands them on when the signs of life end."""
    victim, _ = workers = services(stack, "job-server")
    job_ids = await hasty.create_many(20)
    await eventually(lambda: _held(stack, ports, 20))
    assert min(await metrics(ports, workers, "hasty_jobs_held")) >= 1

    await victim.kill()

    await hasty.finished(job_ids, within_s=RECOVERED_WITHIN_S)


async def test_jobs_of_killed_job_servers_finish_after_their_restart(
    stack: Stack, hasty: Hasty, ports: httpx.AsyncClient
) -> None:
    """With every job-server gone the jobs wait for the first that is back."""
    workers = services(stack, "job-server")
    job_ids = await hasty.create_many(20)
    await eventually(lambda: _held(stack, ports, 20))

    for worker in workers:
        await worker.kill()

    await hasty.finished(job_ids, within_s=RECOVERED_WITHIN_S)


async def test_an_api_server_killed_after_its_answer_loses_nothing(stack: Stack, hasty: Hasty) -> None:
    """What was answered 201 is on disk: the restarted api-server knows it and hears of its end."""
    [api_server] = services(stack, "api-server")
    job_ids = await hasty.create_many(20)

    await api_server.kill()

    await hasty.finished(job_ids, within_s=RECOVERED_WITHIN_S)


async def test_a_job_longer_than_the_acknowledgement_wait_runs_once(
    stack: Stack, hasty: Hasty, ports: httpx.AsyncClient
) -> None:
    """A worker that gives signs of life keeps its job."""
    workers = services(stack, "job-server")
    before = sum(await metrics(ports, workers, "hasty_jobs_started_total"))

    jobs = await hasty.finished(await hasty.create_many(20))

    assert {job["sleep_time_used"] for job in jobs} == {SLEEP_S}
    assert sum(await metrics(ports, workers, "hasty_jobs_started_total")) - before == 20
