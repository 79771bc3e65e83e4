"""The next version of the handlers: `versioned` takes a colour as well."""

from __future__ import annotations

from run_log import noted  # type: ignore[import-not-found]  # it stands beside this file
from tasks import *  # type: ignore[import-not-found]  # noqa: F403 - all others are the same

from hasty import Context, job
from hasty.declare import DECLARED

# This version has its own.
DECLARED[:] = [one for one in DECLARED if one.name != "versioned"]


@job(timeout_s=120)
async def versioned(mark: str, ctx: Context, colour: str = "blue") -> dict[str, str]:
    """Do what the version before does, in a colour."""
    with noted(ctx):
        return {"job": ctx.job_id, "mark": mark, "colour": colour}
