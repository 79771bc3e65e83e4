"""What the command loads, and what that costs: people wait for it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.command import environment
from tests.unit.client.scripted import JOB_ID, job
from tests.unit.client.test_shells import http, serving

RUNS = 5
HELP_MAY_TAKE_S, GET_MAY_TAKE_S = 0.15, 0.25
"""About half of it is needed, even on a busy machine."""

# The processor time, unlike the time by the clock, is not longer on a busy machine.
SCRIPT = """
import json, sys, time
started = time.process_time()
from hasty.cli.app import app
app(sys.argv[1:], standalone_mode=False)
print(json.dumps({"took_s": time.process_time() - started, "loaded": list(sys.modules)}))
"""
TOO_MUCH = {
    *("anyio", "asyncio", "hasty.client.asynchronous", "hasty.client.http", "hasty.handlers"),
    *("hasty.server", "httpcore2", "httpx2", "importlib.metadata", "pydantic", "pydantic_core", "rich"),
    "typing_extensions",
}
"""What takes longer to load than a job to read."""

FOR_A_CALL = {"hasty.client", "hasty.cli.server", "http.client", "email.parser", "ssl"}
"""What only a call to a server needs."""


@dataclass(frozen=True)
class Started:
    """What a command printed, loaded and took."""

    printed: str
    loaded: set[str]
    took_s: float


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A server that knows one job."""
    answer = http(200, json.dumps(job("finished", output="hello")).encode())
    async with serving([answer] * RUNS) as server:
        yield server.url


async def _started(url: str, *arguments: str) -> Started:
    # Without a proxy of this machine's.
    env = {name: value for name, value in environment(url, Path("/")).items() if "proxy" not in name.lower()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", SCRIPT, *arguments), env=env, stdout=asyncio.subprocess.PIPE
    )
    *printed, told = (await process.communicate())[0].decode().splitlines()
    return Started("\n".join(printed), set(json.loads(told)["loaded"]), json.loads(told)["took_s"])


@pytest.mark.parametrize(
    ("arguments", "said", "not_needed", "may_take_s"),
    [
        (("get", JOB_ID), "hello", TOO_MUCH, GET_MAY_TAKE_S),
        (("--help",), "submit", TOO_MUCH | FOR_A_CALL, HELP_MAY_TAKE_S),
    ],
    ids=["get", "--help"],
)
async def test_command_starts_quickly(
    url: str, arguments: tuple[str, ...], said: str, not_needed: set[str], may_take_s: float
) -> None:
    """It loads what it uses: a job is read over plain HTTP and printed as plain text, and help asks no server."""
    runs = [await _started(url, *arguments) for _ in range(RUNS)]

    assert said in runs[0].printed
    assert "hasty.cli.jobs" in runs[0].loaded
    assert not_needed & runs[0].loaded == set()
    # The least of several: what else the machine does can make it longer, and nothing makes it shorter.
    assert min(run.took_s for run in runs) < may_take_s
