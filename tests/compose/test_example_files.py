"""The Compose files that are there to be copied or added, together with docker-compose.yml."""

import pytest

from tests.compose.project import ROOT, command

EXAMPLES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("docker-compose*.example.yml", "examples/*/docker-compose.yml")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_example_file_fits_docker_compose_yml(example: str) -> None:
    """Compose reads both as one project: every network, volume and secret that is named exists."""
    await command("docker", "compose", "-f", "docker-compose.yml", "-f", example, "config", "--quiet")
