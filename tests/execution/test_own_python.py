"""Handlers that run with a Python of their own, for packages that the job-server does not have (HASTY_WORK_PYTHON)."""

import asyncio
import importlib.util
import json
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from hasty.jobs import Status
from hasty.server.runtime.settings import load
from job_server.settings import Settings
from tests.execution.running import executing, outcome

TASKS = """
import sys
import only_for_handlers
from hasty import job

@job
async def on_loop() -> list[str]:
    return [only_for_handlers.NAME, sys.prefix]

@job
def in_thread() -> list[str]:
    return [only_for_handlers.NAME, sys.prefix]

@job(process=True)
def in_process() -> list[str]:
    return [only_for_handlers.NAME, sys.prefix]
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with a package of its own, and handlers that need it."""

    folder: Path
    tasks: Path

    @property
    def python(self) -> str:
        """Its Python."""
        return str(self.folder / "bin" / "python")


@pytest.fixture
async def own(tmp_path: Path) -> Environment:
    """It has pydantic by a path to where this process has it; a job-server in a checkout tells it where `hasty` is."""
    environment = Environment(tmp_path / "environment", tmp_path / "tasks.py")
    environment.tasks.write_text(TASKS)
    making = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "venv", "--without-pip", str(environment.folder)
    )
    assert await making.wait() == 0
    base = {"base": str(environment.folder), "platbase": str(environment.folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=base))
    (packages / "only_for_handlers.py").write_text("NAME = 'a package of its own'\n")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


async def test_handlers_run_with_the_python_that_is_set(own: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every way of running, they import its packages, which the job-server's own Python does not have."""
    monkeypatch.setenv("HASTY_WORK", str(own.tasks))
    monkeypatch.setenv("HASTY_WORK_PYTHON", own.python)
    start = load(Settings).start()
    assert start is not None

    async with executing(Path(start.work), python=start.python) as executor:
        assert executor.problem is None
        results = [await outcome(executor, kind) for kind in ("on_loop", "in_thread", "in_process")]

    assert {result.status for result in results} == {Status.FINISHED}
    told = [json.loads(result.output or "") for result in results]
    assert told == [["a package of its own", str(own.folder)]] * 3
    assert importlib.util.find_spec("only_for_handlers") is None


async def test_own_python_of_the_job_server_lacks_them(own: Environment) -> None:
    """The same handlers cannot be loaded without the setting, and the traceback names the package."""
    async with executing(own.tasks) as executor:
        assert "No module named 'only_for_handlers'" in (executor.problem or "")
        assert executor.kinds == {}


async def test_python_that_is_not_there_is_a_problem(own: Environment) -> None:
    """It is named, and no kind is served."""
    async with executing(own.tasks, python=f"{own.python}-none") as executor:
        assert f"{own.python}-none" in (executor.problem or "")
        assert executor.kinds == {}
