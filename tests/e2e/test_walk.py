"""The walk through `/v1` in the docs: each of its commands, word for word, on a running system."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from hasty.server.local_stack import Stack
from tests.e2e.stacks import running, services
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack, pytest.mark.starts_first]

WALK = Path(__file__).parents[2] / "docs" / "walk.md"
KINDS = {"greet", "count", "refuse", "fetch"}
MARK = "-- the end of a block --"
KILLED_BEFORE = "TWO="


@dataclass
class Block:
    """Commands, and what they print: `…` stands for anything."""

    commands: str
    output: str = ""


def blocks(text: str) -> Iterator[Block]:
    """The blocks of commands, each with the block of output that follows it."""
    block: Block | None = None
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "sh":
            if block is not None:
                yield block
            block = Block(body)
        elif language == "text" and block is not None:
            block.output = body
    assert block is not None
    yield block


def matches(output: str, shown: str) -> bool:
    """Whether an output is what is shown."""
    return re.fullmatch(re.escape(shown.strip()).replace("…", ".*"), output.strip(), re.DOTALL) is not None


class Shell:
    """A shell that runs one block after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, commands: str) -> str:
        """What commands print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{commands}\necho; echo '{MARK}'\n".encode())
        printed = ""
        async with asyncio.timeout(120):
            while (line := (await self._process.stdout.readline()).decode()) != f"{MARK}\n":
                assert line, f"the shell has ended: {printed}"
                printed += line
        return printed


@asynccontextmanager
async def shell(folder: Path, url: str) -> AsyncIterator[Shell]:
    """A shell in a folder until the block is left."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        cwd=folder,
        env={**os.environ, "HASTY": url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield Shell(process)
    finally:
        process.kill()
        await process.wait()


async def serves(http: httpx.AsyncClient) -> bool:
    """Whether every kind of the walk is served."""
    kinds = (await http.get("/v1/kinds")).json().get("data", ())
    return {kind["name"] for kind in kinds if kind["workers"]} >= KINDS


async def kill_api_server(stack: Stack, http: httpx.AsyncClient) -> None:
    """Kill the api-server, and wait until another process serves."""
    [before] = services(stack, "api-server")
    killed = before.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: services(stack, "api-server")[0].pid not in {killed, None}, within_s=30)
    await eventually(lambda: serves(http), within_s=30)


async def test_walk_in_the_docs_is_true(tmp_path: Path) -> None:
    """What each command prints is what is shown after it."""
    text = WALK.read_text()
    [tasks] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "tasks.py").write_text(tasks)
    environment = {"HASTY_WORK": str(tmp_path / "tasks.py")}
    async with (
        running(tmp_path / "hasty", environment=environment) as stack,
        httpx.AsyncClient(base_url=stack.url) as http,
        shell(tmp_path, stack.url) as sh,
    ):
        await eventually(lambda: serves(http), within_s=30)
        walked = 0
        for block in blocks(text):
            if KILLED_BEFORE in block.commands:
                await kill_api_server(stack, http)
            output = await sh.run(block.commands)
            assert matches(output, block.output), f"{block.commands}\n{output}\nis not\n{block.output}"
            walked += 1
    assert walked == text.count("```sh\n")
