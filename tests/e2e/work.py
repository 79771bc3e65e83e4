"""The handlers of the end-to-end tests: DESIGN's own, and some that tell what happened to them."""

import asyncio
import os
import time
from datetime import UTC, datetime

from hasty import Context, Fail, Retry, Snooze, command, job


@job
async def greet(name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@job(retry=Retry(attempts=5, first_s=2, most_s=600), timeout_s=120, key="{url}", cooldown_s=300)
def resize(url: str, width: int, ctx: Context) -> dict[str, int]:
    """Resize a picture, or so."""
    if width > 9000:
        raise Fail("too wide")
    ctx.progress(0.5, f"half of {url}")
    return {"bytes": 1}


@job(process=True)
def train(rows: int) -> float:
    """Keep a processor busy."""
    return rows / 2


thumb = command("thumb", ["sh", "-c", "cat; echo made >&2"])


@job(retry=Retry(attempts=5, first_s=0.2, most_s=2))
async def flaky(fails: int, ctx: Context) -> int:
    """Fail so many times first."""
    if ctx.attempt <= fails:
        raise ConnectionError(f"attempt {ctx.attempt}")
    return ctx.attempt


@job(retry=Retry(attempts=3, first_s=600, most_s=600))
async def doomed() -> None:
    """Fail, and wait long for the next attempt."""
    raise ConnectionError("not today")


@job
async def later(until: datetime) -> str:
    """Come again until it is time."""
    if datetime.now(UTC) < until:
        raise Snooze(0.5)
    return "now"


@job(timeout_s=0.5)
async def slow() -> None:
    """Take longer than it may."""
    await asyncio.sleep(60)


@job
async def long_async(seconds: float, ctx: Context) -> int:
    """Take its time, and say how often it was started."""
    ctx.progress(0.5, "on it")
    await asyncio.sleep(seconds)
    return ctx.run


@job
def long_thread(seconds: float, ctx: Context) -> int:
    """Take its time in a thread, and listen."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ctx.progress(0.5, "on it")
        time.sleep(0.02)
    return ctx.run


@job(process=True)
def long_process(seconds: float) -> str:
    """Take its time in a process."""
    time.sleep(seconds)
    return "done"


long_command = command("long_command", ["sleep", "60"])


@job
async def poison() -> None:
    """Kill the child."""
    os._exit(1)
