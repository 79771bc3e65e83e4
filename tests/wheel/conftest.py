"""The wheel, and environments of its own to install it in: this Python, nothing else, and no pip."""

import sys
from pathlib import Path

import pytest

from hasty.server.local_stack.resources import resource
from tests.wheel.environment import Environment, run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (built,) = folder.iterdir()
    return built


def _installed(folder: Path, requirement: str) -> Environment:
    environment = Environment(folder)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(folder))
    # The versions of the lock, so that no new release of a dependency breaks this.
    lock = str(resource("requirements/server.txt"))
    run(*uv, "pip", "install", "--quiet", "--python", environment.python, "--constraint", lock, requirement)
    return environment


@pytest.fixture(scope="session")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel alone."""
    return _installed(tmp_path_factory.mktemp("client") / "env", str(wheel))


@pytest.fixture(scope="session")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with its extra `server`."""
    return _installed(tmp_path_factory.mktemp("server") / "env", f"{wheel}[server]")
