"""What the api-server's store does while its database is down, on the fake and on a real server alike."""

import asyncio

import pytest

from api_server.domain import Lease
from hasty.jobs import Status
from hasty.server.local_stack import Child
from hasty.server.mongo import StoreUnavailable
from tests.eventually import eventually
from tests.servers import start
from tests.store.conftest import FakeStore, RealStore, open_jobs
from tests.store.jobs import NOON, OWNER, Store, end, letter, new_job

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _Outage:
    """Takes either database away and brings it back."""

    def __init__(self, jobs: Store, server: Child) -> None:
        self._fake = jobs if isinstance(jobs, FakeStore) else None
        self._server = server

    async def begin(self) -> None:
        if self._fake:
            self._fake.up = False
        else:
            await self._server.stay_down()

    async def end(self) -> None:
        if self._fake:
            self._fake.up = True
        else:
            await start(self._server)


@pytest.fixture
def outage(jobs: Store, server: Child) -> _Outage:
    """An outage of the database at hand."""
    return _Outage(jobs, server)


async def test_store_fails_fast_and_recovers_after_an_outage(  # long: a line for each method
    jobs: Store, outage: _Outage
) -> None:
    """Every method says so within three seconds; what was stored is still there afterwards."""
    job, other = new_job(), new_job("another")
    await jobs.insert([job], NOON, OWNER)
    await outage.begin()
    try:
        # Not all at once: what waits for one of motor's threads has its first try when the outage is over.
        for asked in (
            (
                jobs.ping,
                jobs.server_time,
                lambda: jobs.latest_runs(["an object"]),
                lambda: jobs.insert([other], NOON, OWNER),
                lambda: jobs.get([job.job_id]),
            ),
            (
                lambda: jobs.due(NOON, 1),
                lambda: jobs.mark_dispatched([job.job_id], 1, NOON),
                lambda: jobs.make_all_due(NOON),
                lambda: jobs.make_due([job.job_id], NOON),
                lambda: jobs.apply(Status.FINISHED, [end(job)], NOON),
            ),
            (
                lambda: jobs.renew(Lease(OWNER, NOON, NOON)),
                lambda: jobs.abandoned(NOON),
                lambda: jobs.take_over(Lease(OWNER, NOON, NOON), NOON, NOON),
                lambda: jobs.delete(Lease(OWNER, NOON, NOON)),
                lambda: jobs.dead_letter([letter("1")]),
            ),
        ):
            async with asyncio.timeout(3):
                answers = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
    finally:
        await outage.end()

    async def stored() -> bool:
        try:
            return await jobs.get([job.job_id]) == {job.job_id: job}
        except StoreUnavailable:
            return False

    await eventually(stored)
    assert await jobs.insert([new_job()], NOON, OWNER) != set()


async def test_indexes_return_after_the_database_is_emptied(real_jobs: RealStore, server: Child) -> None:
    """The indexes come back under the running service: without them the race would have two winners."""
    await real_jobs.insert([new_job()], NOON, OWNER)
    await server.stay_down()
    with pytest.raises(StoreUnavailable):
        await real_jobs.ping()
    server.wipe()
    await start(server)

    async def inserted() -> bool:
        try:
            return await real_jobs.insert([new_job()], NOON, OWNER) == set()
        except StoreUnavailable:
            return False

    await eventually(inserted)
    assert len(await real_jobs.insert([new_job()], NOON, OWNER)) == 1


async def test_invalid_url_is_refused_without_repeating_it() -> None:
    """A URL may hold a password."""
    with pytest.raises(ValueError, match="Port must be") as caught:
        async with open_jobs("mongodb://user:s3cret@host:99999999/x"):
            pass
    assert "s3cret" not in str(caught.value)
