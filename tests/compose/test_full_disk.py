"""A disk that was full: the health check ends what stores nothing any more, and every accepted job ends."""

import socket
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.compose.load import Load, exactly_once
from tests.compose.project import Project, health, inspect
from tests.eventually import eventually

FILES = "docker-compose.yml:tests/compose/full-disk.yml"
BALLAST = "/disk/ballast"
FOUND_THREE_TIMES_WITHIN_S = 90


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(project: Project) -> AsyncIterator[Project]:
    """A project whose broker has a small disk; gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Project(f"{project.name}-disks", port, {"COMPOSE_FILE": FILES})
    try:
        # The disk exists as long as somebody has it.
        await one.compose("up", "--detach", "filler")
        await one.compose("up", "--detach")
        await one.healthy(within_s=120)
        yield one
    finally:
        await one.compose("down", "--volumes", "--timeout", "5")


async def test_full_disk_of_the_broker_heals_by_itself(small: Project) -> None:
    """Nobody restarts anything; jobs are accepted again, and none was lost."""
    [victim] = await small.containers("nats")
    [before] = await inspect(victim)

    async def restarted() -> bool:
        [now] = await inspect(victim)
        return bool(now["RestartCount"] > before["RestartCount"] and health(now) == "healthy")

    async def refused() -> bool:
        [now] = await inspect(victim)
        return any("stores nothing" in check["Output"] for check in now["State"]["Health"]["Log"])

    async with Load.steady(small.url) as load:
        await load.flows()
        # It ends with the disk's last byte, and says so with an error.
        await small.compose("exec", "-T", "filler", "sh", "-c", f"dd if=/dev/zero of={BALLAST} bs=1M || true")
        await eventually(refused, within_s=FOUND_THREE_TIMES_WITHIN_S, every_s=0.5)
        await small.compose("exec", "-T", "filler", "rm", BALLAST)
        await eventually(restarted, within_s=FOUND_THREE_TIMES_WITHIN_S, every_s=0.5)
        await small.healthy(within_s=60)
        await load.flows()
    await exactly_once(small, load, within_s=90)
