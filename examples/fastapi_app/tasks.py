"""What the application has done for it."""

import asyncio

from hasty import Context, job


@job(timeout_s=300)
async def report(pages: int, ctx: Context) -> dict[str, int]:
    """Write a report, page by page, and tell how far it is."""
    words = 0
    for page in range(pages):
        ctx.progress(page / pages, f"page {page + 1} of {pages}")
        await asyncio.sleep(0.1)
        words += 250
    return {"words": words}
