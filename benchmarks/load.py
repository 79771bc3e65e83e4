"""The load: wrk posts jobs as fast as the answers come, each with an object of its own."""

import asyncio
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

SCRIPT = Path(__file__).with_name("post.lua")
LONGEST_S = 600  # what wrk may take for a given number of jobs


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Load:
    """What one load sent and saw."""

    prefix: str  # every object id of this load begins with it
    connections: int
    accepted: int  # 201 answers read; up to `connections` more may have been under way at the end
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        """Accepted jobs per second."""
        return self.accepted / self.seconds


def program(name: str, install: str) -> str:
    """The path of a program that does not come with the project.

    Raises:
        BenchmarkError: it is missing; the message names the command that installs it.
    """
    path = shutil.which(name)
    if path is None:
        raise BenchmarkError(f"{name} is not installed; `{install}` brings it")
    return path


async def post_jobs(url: str, *, connections: int, seconds: float | None = None, jobs: int = 0) -> Load:
    """Post jobs over `connections` keep-alive connections, for `seconds` or until `jobs` were answered.

    Raises:
        BenchmarkError: wrk is missing, or an answer was lost or was not a 201: such a figure would mean nothing.
    """
    prefix = token_hex(6)
    command = [
        program("wrk", "apt-get install wrk"),
        f"--duration={round(seconds or LONGEST_S)}s",
        "--threads=1",  # one thread sends faster than any api-server answers, and leaves the other core alone
        f"--connections={connections}",
        "--timeout=30s",
        f"--script={SCRIPT}",
        url,
        "--",
        prefix,
        str(jobs),
    ]
    wrk = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        result = await _result(wrk)
    finally:
        if wrk.returncode is None:
            wrk.kill()
            await wrk.wait()
    if result["others"] or result["lost"] or not result["answers"]:
        raise BenchmarkError(
            f"of {result['answers']} answers {result['others']} were not 201 (such as: {result['example'] or 'none'}), "
            f"and {result['lost']} requests were lost"
        )
    return Load(
        prefix=prefix,
        connections=connections,
        accepted=result["answers"],
        seconds=result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
    )


async def _result(wrk: asyncio.subprocess.Process) -> dict[str, Any]:
    if wrk.stdout is None:
        raise BenchmarkError("wrk has no output to read")
    async for line in wrk.stdout:
        if line == b"quota reached\n":
            wrk.send_signal(signal.SIGINT)
        elif line.startswith(b"result "):
            await wrk.wait()
            result: dict[str, Any] = json.loads(line.removeprefix(b"result "))
            return result
    raise BenchmarkError(f"wrk ended with {await wrk.wait()} and no result")
