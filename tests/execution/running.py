"""An executor in a test, and the runs that are started in it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hasty.jobs import Task, Turn, Way
from job_server.execution import Executor
from job_server.execution.child import DEFAULT_PYTHON, Start
from job_server.runs import Result, Run
from tests.eventually import eventually

HANDLERS = Path(__file__).with_name("handlers.py")
PLACES = {Way.ASYNC: 1000, Way.THREAD: 32, Way.PROCESS: 2}


@asynccontextmanager
async def executing(
    work: Path = HANDLERS, *, watch: bool = False, python: str = DEFAULT_PYTHON
) -> AsyncIterator[Executor]:
    """Run an executor until its handlers are loaded."""
    async with Executor.running(Start(str(work), python, None, PLACES), watch=watch) as executor:
        await eventually(lambda: executor.kinds or executor.problem, within_s=30)
        yield executor


def turn_of(kind: str, **values: object) -> Turn:
    """A turn with an input."""
    job_id = str(uuid.uuid4())
    return Turn(job_id, job_id, 1, task=Task(kind, json.dumps(values), attempt=2, labels=("a", "b")))


def start(executor: Executor, turn: Turn, run: int = 1, *, alone: bool = False) -> asyncio.Future[Result]:
    """Start a run; the future gets its result."""
    result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    executor.start(Run(turn, run, alone), result.set_result)
    return result


async def outcome(executor: Executor, kind: str, **values: object) -> Result:
    """Run a handler to its end."""
    async with asyncio.timeout(60):
        return await start(executor, turn_of(kind, **values))
