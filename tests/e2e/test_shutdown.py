"""SIGTERM under load: nobody who was accepted is let down, and the work goes elsewhere at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.client import Hasty, new_object_id
from tests.e2e.stacks import metric, metrics, running, services
from tests.eventually import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

GRACE_S = 1
# Longer than the grace, so that a job-server must hand its jobs back; far shorter than the acknowledgement
# wait of 50 s, so that nothing but the handing back can start them elsewhere in time.
SLEEP_S = 5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two of each; the job-servers have a short grace at the end."""
    async with running(
        tmp_path_factory.mktemp("shutdown"),
        api_servers=2,
        job_servers=2,
        environment={"HASTY_JOB_SLEEP_MIN_S": str(SLEEP_S), "HASTY_JOB_SLEEP_MAX_S": str(SLEEP_S)},
        environment_of={"job-server": {"HASTY_SHUTDOWN_GRACE_S": str(GRACE_S)}},
    ) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[Hasty]:
    """A caller of a stack in which everybody is there."""
    for child in stack.children.values():
        await child.ready(timeout_s=20)
    async with Hasty.at(stack.url) as caller:
        yield caller


@asynccontextmanager
async def load(hasty: Hasty, callers: int) -> AsyncIterator[list[tuple[str, httpx.Response]]]:
    """Callers who post one object after the other until the block is left; every object with its answer.

    Each takes a breath between two: a load that takes the whole machine shows nothing but that.
    """
    answers: list[tuple[str, httpx.Response]] = []
    over = asyncio.Event()

    async def call() -> None:
        while not over.is_set():
            object_id = new_object_id()
            answers.append((object_id, await hasty.ask(object_id)))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(), name=f"caller {number}")
        yield answers
        over.set()


async def more(answers: Sized, count: int) -> None:
    """Wait until there are so many more answers than now."""
    wanted = len(answers) + count
    await eventually(lambda: len(answers) >= wanted)


async def test_stopping_api_servers_in_turn_fails_no_request(stack: Stack, hasty: Hasty) -> None:
    """A rolling restart under load: every request is answered 201, and both leave with 0."""
    async with load(hasty, callers=8) as answers:
        for api_server in services(stack, "api-server"):
            await more(answers, 50)
            assert await api_server.terminate() == 0
            await more(answers, 50)
            await api_server.start()
            await api_server.ready(timeout_s=20)

    assert {answer.status_code for _, answer in answers} == {201}
    await hasty.finished([answer.json()["message"]["job_id"] for _, answer in answers[-50:]])


async def test_a_job_server_that_leaves_hands_its_jobs_back(
    stack: Stack, hasty: Hasty, ports: httpx.AsyncClient
) -> None:
    """They start elsewhere at once, not after the acknowledgement wait; it leaves with 0."""
    leaving, staying = services(stack, "job-server")
    await eventually(lambda: _held_by_both(stack, ports, 0), within_s=30)
    job_ids = await hasty.create_many(20)
    await eventually(lambda: _held_by_both(stack, ports, 20))
    its_jobs = await metric(ports, leaving, "hasty_jobs_held")
    started = await metric(ports, staying, "hasty_jobs_started_total")
    assert its_jobs >= 1

    asked = time.monotonic()
    assert await leaving.terminate() == 0
    assert time.monotonic() - asked < GRACE_S + 3

    async def taken_over() -> bool:
        return await metric(ports, staying, "hasty_jobs_started_total") - started == its_jobs

    await eventually(taken_over, within_s=2)
    await hasty.finished(job_ids, within_s=SLEEP_S + 5)
    await leaving.start()


async def _held_by_both(stack: Stack, ports: httpx.AsyncClient, count: int) -> bool:
    return sum(await metrics(ports, services(stack, "job-server"), "hasty_jobs_held")) == count


async def test_job_servers_that_leave_under_load_lose_no_job(stack: Stack, hasty: Hasty) -> None:
    """One after the other, while jobs keep coming: every accepted job is finished within its time."""
    async with load(hasty, callers=2) as answers:
        for job_server in services(stack, "job-server"):
            await more(answers, 20)
            assert await job_server.terminate() == 0
            await job_server.start()
            await job_server.ready(timeout_s=20)

    assert {answer.status_code for _, answer in answers} == {201}
    job_ids = [answer.json()["message"]["job_id"] for _, answer in answers]
    await hasty.finished(job_ids, within_s=2 * (SLEEP_S + GRACE_S) + 15)
