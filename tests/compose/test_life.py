"""The life of a project as a user sees it: nothing is set, nothing was done before, nothing is left afterwards."""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.compose.project import SERVICES, Project, command
from tests.e2e.client import Hasty


async def left(project: Project, kind: str) -> list[str]:
    """The names of the project's containers, networks or volumes that exist."""
    label = f"label=com.docker.compose.project={project.name}"
    form = "{{.Names}}" if kind == "container" else "{{.Name}}"
    every = ("--all",) if kind == "container" else ()
    return (await command("docker", kind, "ls", *every, "--filter", label, "--format", form)).split()


async def nameless_volumes() -> set[str]:
    """The volumes of this engine that were made because an image wants one and nobody gave it one."""
    return set(re.findall(r"^[0-9a-f]{64}$", await command("docker", "volume", "ls", "--quiet"), re.MULTILINE))


async def credentials(project: Project) -> str:
    """What the services log in with."""
    read = ("exec", "-T", "api-server", "sh", "-c", "cat /run/credentials/*")
    return await project.compose(*read) + await project.compose(*read[:2], "job-server", *read[3:])


@pytest_asyncio.fixture
async def fresh(project: Project) -> AsyncIterator[Project]:
    """A project that has never been started, with the defaults of everything but the port; gone afterwards."""
    # An empty variable counts as not set.
    defaults = {name: "" for name in os.environ if name.startswith("HASTY_") and name.endswith("_S")}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Project(f"{project.name}-fresh", port, defaults)
    yield one
    await one.compose("down", "--volumes", "--timeout", "5")


async def test_the_life_of_a_project(fresh: Project) -> None:
    """Up and healthy; the original's five steps; down and up again with all it knew; down for good."""
    nameless_before = await nameless_volumes()

    await fresh.compose("up", "--detach")
    await fresh.healthy(within_s=120)

    five_steps = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e/test_five_steps.py",
        env={**os.environ, "HASTY_URL": fresh.url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with Hasty.at(fresh.url) as hasty:
        job_id = await hasty.create("remember me")
        output, _ = await five_steps.communicate()
        assert five_steps.returncode == 0, output.decode()
        [job] = await hasty.finished([job_id])
    await everything_in_the_logs_can_be_read(fresh)
    keys = await credentials(fresh)

    await fresh.compose("down")
    assert (await left(fresh, "container"), await left(fresh, "network")) == ([], [])

    await fresh.compose("up", "--detach", "--wait")
    assert await credentials(fresh) == keys
    async with Hasty.at(fresh.url) as hasty:
        assert await hasty.job(job_id) == job

    await fresh.compose("down", "--volumes")
    assert [await left(fresh, kind) for kind in ("container", "network", "volume")] == [[], [], []]
    assert await nameless_volumes() <= nameless_before


async def everything_in_the_logs_can_be_read(project: Project) -> None:
    """Each service says something; the services' own lines are JSON, and none tells of a crash."""
    for service in SERVICES:
        lines = (await project.compose("logs", "--no-log-prefix", service)).splitlines()
        assert lines, f"{service} says nothing"
        # nginx has a line for each request; a test that waits for a job makes many.
        assert service == "nginx" or len(lines) < 200, f"{service} says too much: {len(lines)} lines"
        assert not [line for line in lines if "Traceback" in line], service
        if service in {"api-server", "job-server"}:
            events = [json.loads(line)["event"] for line in lines]
            assert "started" in events, events
