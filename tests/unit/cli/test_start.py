"""What the command loads: people wait for it."""

import asyncio
import json
import sys
from pathlib import Path

from tests.e2e.command import environment
from tests.unit.client.scripted import JOB_ID, job
from tests.unit.client.test_shells import http, serving

SCRIPT = "import sys; from hasty.cli.app import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
TOO_MUCH = {
    *("anyio", "asyncio", "hasty.client.asynchronous", "hasty.client.http", "hasty.handlers"),
    *("hasty.server", "httpcore2", "httpx2", "importlib.metadata", "pydantic", "pydantic_core", "rich"),
    "typing_extensions",
}
"""What takes longer to load than a job to read."""


async def test_get_loads_only_what_it_uses() -> None:
    """A job is read over plain HTTP, and printed as plain text."""
    async with serving([http(200, json.dumps(job("finished", output="hello")).encode())]) as server:
        # Without a proxy of this machine's.
        env = {name: value for name, value in environment(server.url, Path("/")).items() if "proxy" not in name.lower()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", SCRIPT, "get", JOB_ID), env=env, stdout=asyncio.subprocess.PIPE
        )
        printed = (await process.communicate())[0].decode().splitlines()
    assert any("hello" in line for line in printed[:-1])
    loaded = set(printed[-1].split())
    assert "hasty.cli.jobs" in loaded
    assert TOO_MUCH & loaded == set()
