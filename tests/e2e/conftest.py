"""The systems that the end-to-end tests speak to: HASTY_URL, or stacks of their own."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.client import Hasty
from tests.e2e.stacks import System, running

# Short jobs, so that a test waits for the mechanism and not for the sleep.
QUICK = {
    "HASTY_JOB_SLEEP_MIN_S": "0.1",
    "HASTY_JOB_SLEEP_MAX_S": "0.3",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The system for every test that leaves it as it was: HASTY_URL, or two api-servers and three job-servers."""
    given = os.environ.get("HASTY_URL")
    if given:
        yield System(given.rstrip("/"), None)
        return
    folder = tmp_path_factory.mktemp("shared")
    async with running(folder, api_servers=2, job_servers=3, environment=QUICK) as stack:
        yield System(stack.url, stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hasty(system: System) -> AsyncIterator[Hasty]:
    """A caller of the shared system."""
    async with Hasty.at(system.url) as caller:
        yield caller


@pytest.fixture(scope="session")
def shared_stack(system: System) -> Stack:
    """The shared system's processes, for tests marked own_stack."""
    assert system.stack is not None, "a test that asks for processes must be marked own_stack"
    return system.stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ports() -> AsyncIterator[httpx.AsyncClient]:
    """A client for the services' own ports, where health and metrics are."""
    async with httpx.AsyncClient(timeout=5) as client:
        yield client
