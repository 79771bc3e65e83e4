"""An image with handlers and packages of your own, from the files that examples/README.md tells to use."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compose.calls import calling
from tests.compose.project import Project, attempt, command

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILES = "docker-compose.yml:examples/container/docker-compose.yml"


@pytest_asyncio.fixture(loop_scope="session")
async def own_job_server(project: Project) -> AsyncIterator[str]:
    """One more job-server, from the example's image; its container and the image are gone afterwards."""
    example = Project(project.name, project.port, {"COMPOSE_FILE": FILES})
    name = f"{project.name}-own"
    try:
        await example.compose("build", "job-server")
        await example.compose("run", "--detach", "--no-deps", "--name", name, "job-server")
        yield name
    finally:
        await attempt("docker", "rm", "--force", name)
        await attempt("docker", "image", "rm", f"my-job-server:{os.environ['HASTY_TAG']}")


async def test_example_image_runs_its_handler_under_compose(project: Project, own_job_server: str) -> None:
    """The handler imports a package that the job-server's own Python does not have."""
    async with calling(project, "slug") as hasty:
        job = await hasty.submit("slug", wait=30, title="Handlers in Ünnamed Boxes")

    assert (job["status"], job["output"]) == ("finished", "handlers-in-unnamed-boxes")
    look = "import importlib.util; print(importlib.util.find_spec('slugify'))"
    assert (await command("docker", "exec", own_job_server, "python", "-c", look)).strip() == "None"
