"""The jobs of the demo: they take their time, and know how often they were started."""

import asyncio

from hasty import Context, job


@job
async def work(seconds: float, ctx: Context) -> int:
    """Return how often this job was started."""
    await asyncio.sleep(seconds)
    return ctx.run
