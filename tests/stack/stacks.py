"""Stacks of stand-ins: real processes and a real nginx, without the services and what they need."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from hasty.server.local_stack import StackConfig
from hasty.server.local_stack.process import started

STANDIN = Path(__file__).with_name("standin.py")


def standin(*options: str) -> list[str]:
    """The command of a stand-in."""
    return [sys.executable, "-S", "-E", str(STANDIN), *options]


def config(folder: Path, **changes: Any) -> StackConfig:
    """A stack of one stand-in of each kind, with neither broker nor databases."""
    plain = StackConfig(
        folder=folder,
        nats_url="nats://nowhere:1",
        api_mongo_url="mongodb://nowhere:2",
        job_mongo_url="mongodb://nowhere:3",
        commands={"api-server": standin(), "job-server": standin()},
        restart_pause_s=0.05,
    )
    return replace(plain, **changes)


def told(folder: Path) -> dict[str, Any]:
    """What stack.json says."""
    answer: dict[str, Any] = json.loads((folder / "stack.json").read_text())
    return answer


def pids(folder: Path) -> list[int]:
    """The children that stack.json names."""
    return [child["pid"] for child in told(folder)["children"] if child["pid"] is not None]


def works_in(folder: Path) -> list[int]:
    """Every living process that has `folder`, or one below, as its own."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process.pid)
    return found


def lives(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    return started(pid) is not None


async def supervised(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """A stack of stand-ins in the foreground of a process of its own, as `make up` is."""
    script = Path(__file__).with_name("supervisor.py")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), str(folder), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(STANDIN.parent.parent.parent)},
    )


async def line_with(process: asyncio.subprocess.Process, part: str, within_s: float = 60) -> str:
    """The next line of its output that holds `part`."""
    assert process.stdout is not None
    seen: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while line := (await process.stdout.readline()).decode():
                seen.append(line)
                if part in line:
                    return line
    raise AssertionError(f"{part!r} was not said within {within_s:g} s, but: {''.join(seen)}")


async def rest_of(process: asyncio.subprocess.Process) -> tuple[int, Sequence[str]]:
    """Its exit code and the lines it had left to say."""
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().splitlines()
