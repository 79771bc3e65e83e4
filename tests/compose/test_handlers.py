"""Handlers in containers: loaded from a folder beside the compose file, and kept to their own."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compose.calls import calling
from tests.compose.project import Project, inspect
from tests.e2e.v1 import V1

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(project: Project) -> AsyncIterator[V1]:
    """A caller, once the kinds are known."""
    async with calling(project, "greet") as caller:
        yield caller


@pytest.mark.parametrize(
    ("kind", "values", "output"),
    [("greet", {"name": "Ada"}, "hello Ada"), ("train", {"rows": 3}, 1.5), ("echo", {"a": 1}, {"a": 1})],
)
async def test_handlers_of_the_mounted_folder_run(
    hasty: V1, kind: str, values: dict[str, object], output: object
) -> None:
    """In every way of running."""
    job = await hasty.submit(kind, wait=30, **values)

    assert (job["status"], job["output"]) == ("finished", output)


async def test_handler_sees_no_settings_but_can_read_logins(hasty: V1) -> None:
    """It runs as the service's user, who has no other rights: handlers are trusted code, as docs/handlers.md says."""
    output = (await hasty.submit("whoami", wait=30))["output"]

    assert output == {"settings": [], "user": 10001, "credentials": True}


async def test_poison_is_lost_in_containers_as_well(hasty: V1) -> None:
    """And the next job finds a child."""
    job = await hasty.submit("poison", wait=30)

    assert (job["status"], job["error"]["reason"]) == ("failed", "lost")
    assert (await hasty.submit("greet", wait=30, name="Ada"))["output"] == "hello Ada"


async def starts(project: Project) -> list[tuple[str, int, str]]:
    """Each container of the job-servers, how often it was restarted, and when it was started last."""
    found = await inspect(*await project.containers("job-server"))
    return [(one["Id"], one["RestartCount"], one["State"]["StartedAt"]) for one in found]


async def naps_on(job_servers: int, hasty: V1) -> list[str]:
    """Jobs that run for a while, some on each of so many job-servers."""
    naps: list[str] = []
    workers: set[str] = set()
    while len(workers) < job_servers:
        some = [(await hasty.submit("nap", seconds=12))["id"] for _ in range(job_servers)]
        naps += some
        workers |= {job["worker"] for job in await asyncio.gather(*map(hasty.running, some))}
    return naps


async def test_kernel_ends_a_handler_before_its_job_server(hasty: V1) -> None:
    """However much of the container's memory each of them has."""
    output = (await hasty.submit("oom_scores", wait=30))["output"]

    assert output["handler"] > output["job_server"]


async def test_handler_that_takes_all_memory_is_lost_alone(project: Project, hasty: V1) -> None:
    """The kernel ends its child, and neither the job-server nor the jobs that were started again beside it."""
    before = await starts(project)
    neighbours = await naps_on(len(before), hasty)

    poison = await hasty.submit("takes_all_memory")
    ended = await hasty.ended(poison["id"], within_s=90)
    beside = await asyncio.gather(*(hasty.ended(one, within_s=90) for one in neighbours))

    assert (ended["status"], ended["error"]["reason"]) == ("failed", "lost")
    assert {one["status"] for one in beside} == {"finished"}
    assert max(one["output"] for one in beside) > 1
    assert await starts(project) == before
    assert (await hasty.submit("greet", wait=30, name="Ada"))["output"] == "hello Ada"


async def test_running_job_can_be_cancelled_in_containers(hasty: V1) -> None:
    """A request reaches the job-server that runs it, through both accounts of the broker."""
    running = await hasty.running((await hasty.submit("nap", seconds=600))["id"])

    assert (await hasty.cancel(running["id"])).status_code == 202

    ended = await hasty.ended(running["id"], within_s=30)
    assert (ended["status"], ended["worker"]) == ("cancelled", running["worker"])
    assert ended["started_at"] is not None


async def test_waiting_job_can_be_cancelled_in_containers(hasty: V1) -> None:
    """It never starts."""
    response = await hasty.ask("greet", input={"name": "Ada"}, delay_s=3600)
    job_id = response.json()["id"]

    assert (await hasty.cancel(job_id)).status_code == 202

    assert (await hasty.ended(job_id, within_s=30))["status"] == "cancelled"
