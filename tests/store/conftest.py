"""The databases that must behave alike: a fake of each service's, and the real thing."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from api_server.store import JobStore
from job_server.store import OutcomeStore
from local_stack import Child
from tests.fakes import FakeJobStore, FakeOutcomeStore
from tests.servers import mongo_server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Child]:
    """One MongoDB-compatible server for all tests of a module."""
    async with mongo_server(tmp_path_factory.mktemp("mongo")) as running:
        yield running


@pytest.fixture
def url(server: Child) -> str:
    """A database of the test's own."""
    return f"mongodb://{server.address}/test_{uuid.uuid4().hex}"


@pytest_asyncio.fixture(loop_scope="session")
async def real_jobs(url: str) -> AsyncIterator[JobStore]:
    """The api-server's store on the real server."""
    async with JobStore.opened(url) as store:
        yield store


@pytest.fixture(params=["fake", "mongodb"])
def jobs(request: pytest.FixtureRequest) -> JobStore | FakeJobStore:
    """Each of the api-server's two."""
    if request.param == "fake":
        return FakeJobStore()
    real: JobStore = request.getfixturevalue("real_jobs")
    return real


@pytest_asyncio.fixture(loop_scope="session")
async def real_outcomes(url: str) -> AsyncIterator[OutcomeStore]:
    """The job-server's store on the real server."""
    async with OutcomeStore.opened(url, worker="a test") as store:
        yield store


@pytest.fixture(params=["fake", "mongodb"])
def outcomes(request: pytest.FixtureRequest) -> OutcomeStore | FakeOutcomeStore:
    """Each of the job-server's two."""
    if request.param == "fake":
        return FakeOutcomeStore()
    real: OutcomeStore = request.getfixturevalue("real_outcomes")
    return real
