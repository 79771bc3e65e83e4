"""The handlers that are measured: they do nothing, so that all that costs is the way to them and back."""

import asyncio
import os

from hasty import command, job


@job
async def greet(name: str) -> str:
    """Say hello, on the loop."""
    return f"hello {name}"


@job
def greet_thread(name: str) -> str:
    """Say hello, in a thread."""
    return f"hello {name}"


@job(process=True)
def greet_process(name: str) -> str:
    """Say hello, in a process."""
    return f"hello {name}"


greet_command = command("greet_command", ["cat"])


@job
async def sleeper(name: str) -> str:
    """Sleep for as long as the environment says."""
    await asyncio.sleep(float(os.environ["BENCHMARK_SLEEP_S"]))
    return name
