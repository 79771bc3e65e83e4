"""The databases that must behave alike: a fake of each service's, and the real thing."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from api_server.store import CALL_TIMEOUT_S, DATABASE, INDEXES
from api_server.store.batches import BatchStore
from api_server.store.jobs import JobStore
from api_server.store.kinds import KindStore
from api_server.store.leases import LeaseStore
from api_server.store.listing import ListingStore
from api_server.store.overview import OverviewStore
from api_server.store.requests import RequestStore
from api_server.store.runs import RunStore
from api_server.store.statuses import StatusStore
from hasty.jobs import DeadLetter
from hasty.server.local_stack import Child
from hasty.server.mongo import Mongo
from job_server import store as job_store
from job_server.store import EndingStore
from tests.fakes import FakeEndingStore, FakeJobStore, FakeKindStore, FakeLeaseStore, FakeListingStore, FakeRequestStore
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


class RealStore(JobStore, LeaseStore, RunStore):
    """Everything that the api-server keeps, on a real server."""

    def __init__(self, mongo: Mongo) -> None:
        JobStore.__init__(self, mongo)
        LeaseStore.__init__(self, mongo, self)
        RunStore.__init__(self, mongo)
        self.ping = mongo.ping
        self.server_time = mongo.server_time

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Store messages that cannot be processed."""
        await self._mongo.dead_letter(letters, (await self.server_time()).at)


class RealKinds(KindStore, RequestStore, StatusStore):
    """What else the api-server keeps, on a real server."""


class FakeKinds(FakeKindStore, FakeRequestStore):
    """What else the api-server keeps, as a fake."""

    def __init__(self) -> None:
        FakeRequestStore.__init__(self)
        FakeKindStore.__init__(self)


class FakeStore(FakeJobStore, FakeLeaseStore):
    """Everything that the api-server keeps, as a fake."""

    def __init__(self) -> None:
        FakeJobStore.__init__(self)
        FakeLeaseStore.__init__(self, self)


@asynccontextmanager
async def open_jobs(url: str) -> AsyncIterator[RealStore]:
    """Open the api-server's database."""
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        yield RealStore(mongo)


@pytest_asyncio.fixture(loop_scope="session")
async def real_kinds(url: str) -> AsyncIterator[RealKinds]:
    """Kinds and requests on the real server."""
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        yield RealKinds(mongo)


@pytest.fixture(params=["fake", "mongodb"])
def kinds(request: pytest.FixtureRequest) -> RealKinds | FakeKinds:
    """Each of the two."""
    if request.param == "fake":
        return FakeKinds()
    real: RealKinds = request.getfixturevalue("real_kinds")
    return real


class RealEndings(EndingStore):
    """Everything that the job-server keeps, on a real server."""

    def __init__(self, mongo: Mongo) -> None:
        super().__init__(mongo, "a test")
        self.ping = mongo.ping


@asynccontextmanager
async def open_endings(url: str) -> AsyncIterator[RealEndings]:
    """Open the job-server's database."""
    timeout_s = job_store.CALL_TIMEOUT_S
    async with Mongo.opened(url, name=job_store.DATABASE, indexes={}, timeout_s=timeout_s) as mongo:
        yield RealEndings(mongo)


@pytest_asyncio.fixture(loop_scope="session")
async def real_jobs(url: str) -> AsyncIterator[RealStore]:
    """The api-server's store on the real server."""
    async with open_jobs(url) as store:
        yield store


@pytest.fixture(params=["fake", "mongodb"])
def jobs(request: pytest.FixtureRequest) -> RealStore | FakeStore:
    """Each of the api-server's two."""
    if request.param == "fake":
        return FakeStore()
    real: RealStore = request.getfixturevalue("real_jobs")
    return real


class RealLists(ListingStore, BatchStore, OverviewStore):
    """What lists, batches and the overview are made from, on a real server."""

    def __init__(self, mongo: Mongo, jobs: JobStore) -> None:
        ListingStore.__init__(self, mongo, jobs)
        BatchStore.__init__(self, mongo, jobs)
        self.jobs = jobs


class FakeLists(FakeListingStore):
    """The same, as a fake."""

    def __init__(self) -> None:
        self.jobs = FakeStore()
        super().__init__(self.jobs)


@pytest_asyncio.fixture(loop_scope="session")
async def real_lists(url: str) -> AsyncIterator[RealLists]:
    """Lists on the real server."""
    async with Mongo.opened(url, name=DATABASE, indexes=INDEXES, timeout_s=CALL_TIMEOUT_S) as mongo:
        yield RealLists(mongo, RealStore(mongo))


@pytest.fixture(params=["fake", "mongodb"])
def lists(request: pytest.FixtureRequest) -> RealLists | FakeLists:
    """Each of the two."""
    if request.param == "fake":
        return FakeLists()
    real: RealLists = request.getfixturevalue("real_lists")
    return real


@pytest_asyncio.fixture(loop_scope="session")
async def real_endings(url: str) -> AsyncIterator[RealEndings]:
    """The job-server's store on the real server."""
    async with open_endings(url) as store:
        yield store


@pytest.fixture(params=["fake", "mongodb"])
def endings(request: pytest.FixtureRequest) -> RealEndings | FakeEndingStore:
    """Each of the job-server's two."""
    if request.param == "fake":
        return FakeEndingStore()
    real: RealEndings = request.getfixturevalue("real_endings")
    return real
