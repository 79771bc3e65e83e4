"""Brokers and databases that are away for a while: who needs them says so, and goes on when they are back."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Child, Stack
from tests.e2e.client import Hasty, new_object_id
from tests.e2e.stacks import running, services
from tests.eventually import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

OVERDUE_S = 6


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One of each, with short jobs, and a short deadline for those that were lost."""
    environment = {
        "HASTY_ACK_WAIT_S": "3",
        "HASTY_OVERDUE_S": str(OVERDUE_S),
        "HASTY_JOB_SLEEP_MIN_S": "0.1",
        "HASTY_JOB_SLEEP_MAX_S": "0.3",
        "HASTY_JOB_TIMEOUT_S": "2",
    }
    async with running(tmp_path_factory.mktemp("outages"), environment=environment) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[Hasty]:
    """A caller of a stack in which everything is ready, whatever test came before."""
    for child in stack.children.values():
        await child.ready(timeout_s=20)
    async with Hasty.at(stack.url) as caller:
        await caller.finished([await caller.create()], within_s=20)
        yield caller


@pytest.fixture
def lives(stack: Stack) -> dict[str, int | None]:
    """The process ids of our services: an outage of others is no reason to end."""
    return _lives(stack)


def _lives(stack: Stack) -> dict[str, int | None]:
    children: list[Child] = services(stack, "api-server") + services(stack, "job-server")
    return {child.name: child.pid for child in children}


async def test_jobs_are_accepted_while_the_broker_is_away(
    stack: Stack, hasty: Hasty, lives: dict[str, int | None]
) -> None:
    """201 without a broker, promptly; the jobs run when it is back."""
    broker = stack.children["nats"]
    await broker.stay_down()
    try:
        started = time.monotonic()
        job_ids = await hasty.create_many(10)
        assert time.monotonic() - started < 3
        assert {(await hasty.job(job_id))["status"] for job_id in job_ids} == {"processing"}
    finally:
        await broker.start()

    await hasty.finished(job_ids, within_s=20)
    assert _lives(stack) == lives


async def test_jobs_survive_the_loss_of_everything_the_broker_knew(stack: Stack, hasty: Hasty) -> None:
    """The jobs' own documents are the truth: what the broker lost is dispatched again."""
    broker, [worker] = stack.children["nats"], services(stack, "job-server")
    assert await worker.terminate() == 0
    job_ids = await hasty.create_many(10)

    await broker.stay_down()
    broker.wipe()
    await broker.start()
    await worker.start()

    await hasty.finished(job_ids, within_s=OVERDUE_S + 20)


async def test_running_services_set_up_an_empty_broker_again(
    stack: Stack, hasty: Hasty, lives: dict[str, int | None]
) -> None:
    """Stream and consumers come back without a restart of ours."""
    broker = stack.children["nats"]
    await broker.stay_down()
    broker.wipe()
    await broker.start()

    await hasty.finished(await hasty.create_many(10), within_s=OVERDUE_S + 20)
    assert _lives(stack) == lives


async def test_without_its_database_the_api_server_says_so_at_once(
    stack: Stack, hasty: Hasty, ports: httpx.AsyncClient, lives: dict[str, int | None]
) -> None:
    """503 with Retry-After within three seconds for both requests, and service again after its return."""
    [api_server] = services(stack, "api-server")
    database = stack.children["api-mongo"]
    job_id = await hasty.create()
    object_id = new_object_id()
    await database.stay_down()
    try:
        for _ in range(2):
            started = time.monotonic()
            answers = await asyncio.gather(hasty.ask(object_id), hasty.get(job_id))
            assert time.monotonic() - started < 3
            for answer in answers:
                _assert_unavailable(answer)
        probe = await ports.get(f"http://{api_server.address}/readyz")
        assert (probe.status_code, probe.json()["status"]) == (503, "unready")
        assert probe.json()["checks"]["database"] != "ok"
        assert (await ports.get(f"http://{api_server.address}/healthz")).status_code == 200
    finally:
        await database.start()

    async def created() -> str:
        return await hasty.create(object_id)

    again = await eventually(created, within_s=10)
    await hasty.finished([job_id, again], within_s=20)
    assert _lives(stack) == lives


def _assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["message"]
    assert int(answer.headers["retry-after"]) >= 1


async def test_without_its_database_a_job_server_waits(
    stack: Stack, hasty: Hasty, lives: dict[str, int | None]
) -> None:
    """Jobs are accepted and processing meanwhile, and finished after its return."""
    [worker], database = services(stack, "job-server"), stack.children["job-mongo"]
    said_before = worker.log.read_text().count("jobs_not_started")
    await database.stay_down()
    try:
        job_ids = await hasty.create_many(10)
        # It was given the jobs, and has found out that it cannot begin them.
        await eventually(lambda: worker.log.read_text().count("jobs_not_started") > said_before, within_s=20)
        assert {(await hasty.job(job_id))["status"] for job_id in job_ids} == {"processing"}
    finally:
        await database.start()

    await hasty.finished(job_ids, within_s=30)
    assert _lives(stack) == lives


async def test_everything_killed_at_once_comes_back_with_every_job(stack: Stack, hasty: Hasty) -> None:
    """As after a power cut: what was answered 201 is there, and ends."""
    job_ids = await hasty.create_many(20)

    for name, child in stack.children.items():
        if name != "nginx":
            await child.kill()

    await hasty.finished(job_ids, within_s=OVERDUE_S + 30)
