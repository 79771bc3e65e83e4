"""Handlers whose jobs show everything that the dashboard can."""

import asyncio

from hasty import Context, Fail, Retry, job


@job
async def greet(name: str) -> str:
    """Greet somebody."""
    return f"hello {name}"


@job(key="{url}", timeout_s=120)
async def resize(url: str, seconds: float, ctx: Context) -> dict[str, int]:
    """Resize a picture, in so many seconds."""
    for step in range(100):
        ctx.progress(step / 100, f"{step} of 100 tiles of {url}")
        await asyncio.sleep(seconds / 100)
    return {"bytes": 1024}


@job(retry=Retry(attempts=4, first_s=0.3, most_s=1))
async def fetch(url: str, fails: int, ctx: Context) -> int:
    """Fetch a page that answers only after so many attempts."""
    await asyncio.sleep(0.3)
    if ctx.attempt <= fails:
        raise ConnectionError(f"503 from {url}")
    return ctx.attempt


@job
async def send(to: str) -> None:
    """Send a mail to an address that may be wrong."""
    if "@" not in to:
        raise Fail(f"{to} is no address")
