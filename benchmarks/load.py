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
    refused: int = 0  # answers that were not 201

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


async def post_jobs(
    url: str,
    *,
    connections: int,
    seconds: float | None = None,
    jobs: int = 0,
    may_be_refused: bool = False,
    kind: str | None = None,
) -> Load:
    """Post jobs over `connections` keep-alive connections, for `seconds` or until `jobs` were answered.

    They are jobs of the root kind, or of `kind`.

    Raises:
        BenchmarkError: wrk is missing, or an answer was lost or was not a 201: such a figure would mean nothing, unless
            the load is a flood that `may_be_refused`.
    """
    prefix = token_hex(6)
    wrk = await asyncio.create_subprocess_exec(
        *_command(url, connections, seconds or LONGEST_S),
        *("--", prefix, str(jobs)),
        *([kind] if kind is not None else []),
        stdout=asyncio.subprocess.PIPE,
    )
    result = await _result(wrk)
    if not may_be_refused:
        _require_answers(result)
    return Load(
        prefix=prefix,
        connections=connections,
        accepted=result["answers"] - result["others"],
        seconds=result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        refused=result["others"],
    )


def _command(url: str, connections: int, seconds: float) -> list[str]:
    return [
        program("wrk", "apt-get install wrk"),
        f"--duration={round(seconds)}s",
        "--threads=1",  # one thread sends faster than any api-server answers, and leaves the other core alone
        f"--connections={connections}",
        "--timeout=30s",
        f"--script={SCRIPT}",
        url,
    ]


def _require_answers(result: dict[str, Any]) -> None:
    if result["others"] or result["lost"] or not result["answers"]:
        raise BenchmarkError(
            f"of {result['answers']} answers {result['others']} were not 201 (such as: {result['example'] or 'none'}), "
            f"and {result['lost']} requests were lost"
        )


async def _result(wrk: asyncio.subprocess.Process) -> dict[str, Any]:
    """Wait for its result; it never outlives the call."""
    if wrk.stdout is None:
        raise BenchmarkError("wrk has no output to read")
    try:
        async for line in wrk.stdout:
            if line == b"quota reached\n":
                wrk.send_signal(signal.SIGINT)
            elif line.startswith(b"result "):
                await wrk.wait()
                result: dict[str, Any] = json.loads(line.removeprefix(b"result "))
                return result
        raise BenchmarkError(f"wrk ended with {await wrk.wait()} and no result")
    finally:
        if wrk.returncode is None:
            wrk.kill()
            await wrk.wait()
