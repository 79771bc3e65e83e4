"""Handlers of the containers' tests."""

import asyncio
import os
from pathlib import Path

from hasty import Context, command, job


@job
async def greet(name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@job(process=True)
def train(rows: int) -> float:
    """Compute."""
    return rows / 2


echo = command("echo", ["cat"])


@job
def whoami(ctx: Context) -> dict[str, object]:
    """Tell what a handler can see."""
    ctx.progress(1)
    return {
        "user": os.getuid(),
        "settings": sorted(name for name in os.environ if name.startswith("HASTY_")),
        "credentials": os.access("/run/credentials/nats_url", os.R_OK),
    }


@job
async def poison() -> None:
    """Kill the child."""
    os._exit(1)


@job
async def oom_scores() -> dict[str, int]:
    """Tell whom the kernel ends first when memory is short: the one with more."""
    return {
        name: int(Path(f"/proc/{pid}/oom_score_adj").read_text())  # noqa: ASYNC240 - a file in memory
        for name, pid in (("handler", os.getpid()), ("job_server", os.getppid()))
    }


@job
async def takes_all_memory() -> int:
    """Take 10 GiB, and write to all of it."""
    taken = [b"x" * 2**20 for _ in range(10 * 2**10)]
    return len(taken)


@job
async def divide(amount: int, by: int) -> float:
    """Divide, which fails where it is by nothing."""
    return amount / by


@job
async def stuck(ctx: Context) -> int:
    """Get stuck the first time; started again, tell how often it was."""
    if ctx.run == 1:
        await asyncio.Event().wait()
    return ctx.run


@job
async def nap(seconds: float, ctx: Context) -> int:
    """Sleep, and tell how often it was started."""
    await asyncio.sleep(seconds)
    return ctx.run
