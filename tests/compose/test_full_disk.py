"""A disk that was full: the health check ends what stores nothing any more, and every accepted job ends."""

import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compose.load import Load, exactly_once
from tests.compose.project import Project, health, inspect
from tests.eventually import eventually

FILES = "docker-compose.yml:tests/compose/full-disk.yml"
FOUND_THREE_TIMES_WITHIN_S = 90


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(project: Project) -> AsyncIterator[Project]:
    """A project with small disks; gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Project(f"{project.name}-disks", port, {"COMPOSE_FILE": FILES})
    try:
        # The disks exist as long as somebody has them.
        await one.compose("up", "--detach", "filler")
        await one.compose("up", "--detach")
        await one.healthy(within_s=120)
        yield one
    finally:
        await one.compose("down", "--volumes", "--timeout", "5")


@pytest.mark.parametrize(
    ("service", "writer"), [("nats", None), ("api-mongo", "api-server"), ("job-mongo", "job-server")]
)
async def test_full_disk_heals_by_itself(small: Project, service: str, writer: str | None) -> None:
    """Nobody restarts anything; jobs are accepted again, and none was lost."""
    ballast = f"/disks/{service}/ballast"
    [victim] = await small.containers(service)
    [before] = await inspect(victim)

    async def restarted() -> bool:
        [now] = await inspect(victim)
        return bool(now["RestartCount"] > before["RestartCount"] and health(now) == "healthy")

    async def found() -> bool:
        [now] = await inspect(victim)
        by_check = any("stores nothing" in check["Output"] for check in now["State"]["Health"]["Log"])
        # mongod ends by itself.
        return by_check or now["RestartCount"] > before["RestartCount"]

    async with Load.steady(small.url) as load:
        await load.flows()
        # It ends with the disk's last byte, and says so with an error.
        await small.compose("exec", "-T", "filler", "sh", "-c", f"dd if=/dev/zero of={ballast} bs=1M || true")
        if writer is not None:
            # The last of it is filled by the database itself, while its files grow.
            await small.compose("exec", "-T", "filler", "truncate", "--size", "-80M", ballast)
            answer = await small.ask_inside(writer, "ballast.py")
            assert answer["refused"] > 1, answer
        await eventually(found, within_s=FOUND_THREE_TIMES_WITHIN_S, every_s=0.5)
        await small.compose("exec", "-T", "filler", "rm", ballast)
        await eventually(restarted, within_s=FOUND_THREE_TIMES_WITHIN_S, every_s=0.5)
        await small.healthy(within_s=60)
        if writer is not None:
            await small.ask_inside(writer, "ballast.py", "remove")
        await load.flows()
    await exactly_once(small, load, within_s=90)
