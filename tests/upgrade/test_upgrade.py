"""Data and stream of the released version go on under the code of this folder, and back again, under load."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.history import run_clock
from tests.eventually import eventually
from tests.upgrade.system import ENDS_WITHIN_S, SERVICES, System, reopened, under_load
from tests.upgrade.versions import Version, Versions, unpack_release

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

# In both directions, over the same data.
THERE_AND_BACK = (Version.CURRENT, Version.RELEASED)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the released code."""
    return unpack_release(tmp_path_factory.mktemp("release"))


async def test_stopped_and_started_as_other_version(tmp_path: Path, release: Path) -> None:
    """Jobs in work, queued, published by nobody yet and accepted without a broker all end once in the other version."""
    cooldown_s = 60
    async with under_load(tmp_path, Versions(release), Version.RELEASED, cooldown_s=cooldown_s) as system:
        for version in THERE_AND_BACK:
            system.load.rush()
            left_leases = await _stop_with_jobs_everywhere(system)
            switched = run_clock()
            await system.child("nats").start()
            await system.child("nats").ready()
            await system.versions.start(version, *(system.child(name) for name in SERVICES))

            await _refused_for_a_job_of_before(system, switched)
            await _taken_over(system, left_leases)
            await _all_ended(system)
        await system.audit(cooldown_s)


async def _stop_with_jobs_everywhere(system: System) -> set[str]:
    """Stop all services of one version at their worst moment; the owners of the leases that were left behind."""
    broker = system.child("nats")
    killed_worker, worker = system.child("job-server-1"), system.child("job-server-2")
    killed_server, server = system.child("api-server-1"), system.child("api-server-2")

    await system.accept(40)
    await eventually(lambda: system.in_work(10))
    await killed_worker.stay_down()
    assert await worker.terminate() == 0
    await system.accept(10)
    await eventually(lambda: system.queued(10))

    # What is accepted from now on stays unpublished: the broker neither answers nor closes its connections.
    broker.pause()
    unpublished = await system.accept(20)
    await killed_server.stay_down()
    await broker.stay_down()
    await system.accept(10)
    await server.terminate()

    leases = await system.leases()
    jobs = system.jobs_db.hasty_api.jobs
    left = await jobs.count_documents({"_id": {"$in": list(unpublished)}, "owner": {"$in": list(leases)}})
    assert left, (leases, len(unpublished))
    return leases


async def _refused_for_a_job_of_before(system: System, switched: float) -> None:
    """Wait for a caller who has to wait because of a job that the other version accepted."""
    system.load.rush()
    before = {job_id for job_id, post in system.history.accepted().items() if post.ended < switched}

    def refused() -> bool:
        return any(
            post.status == 400 and post.sent > switched and post.job_id in before for post in system.history.posts
        )

    await eventually(refused)


async def _taken_over(system: System, leases: set[str]) -> None:
    """Wait until none of these leases is left."""

    async def taken_over() -> bool:
        return not leases & await system.leases()

    await eventually(taken_over, within_s=ENDS_WITHIN_S, every_s=0.2)


async def _all_ended(system: System) -> None:
    """Wait until every job that was accepted so far has its outcome."""
    accepted = set(system.history.accepted())
    await eventually(lambda: system.ended(accepted), within_s=ENDS_WITHIN_S, every_s=0.2)


async def test_replaced_one_by_one(tmp_path: Path, release: Path) -> None:
    """While both versions work side by side, requests are answered and every job ends once."""
    cooldown_s = 2
    async with under_load(tmp_path, Versions(release), Version.RELEASED, cooldown_s=cooldown_s) as system:
        switches = []
        for version in THERE_AND_BACK:
            for name in ("api-server-1", "job-server-1", "job-server-2", "api-server-2"):
                system.load.rush()
                await system.accept(20)
                if name == "api-server-1":
                    switches.append(run_clock())
                await system.versions.replace(version, system.child(name))
        found = await system.audit(cooldown_s)
    statuses = Counter(post.status for post in system.history.posts)
    # A machine that is busy with other tests may be too slow for a request: 503, and the caller asks again.
    assert statuses.keys() <= {201, 400, 503}
    assert statuses[503] <= statuses.total() / 50
    # After its cooldown an object gets its next job, whichever version stored the one before.
    assert all(reopened(found, switched) for switched in switches)
