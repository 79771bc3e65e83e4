"""Ids as people type them: whole, or as much of the end or the beginning as is unique among the newest jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hasty.cli.exits import NO_SUCH_JOB, USAGE, leave
from hasty.client.calls import JOB_ID

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty, Job

LOOKED_AT: Final = 1_000
"""So many jobs are looked at, the newest first."""

NAMED: Final = 10
"""So many jobs are named, where several may be meant."""

_PART: Final = re.compile(r"[0-9a-f-]{4,35}")


def resolve(client: Hasty, text: str) -> str:
    """Return the id of the job that is meant; exits where there is none, or more than one."""
    part = text.lower()
    if JOB_ID.fullmatch(part):
        return part
    if not _PART.fullmatch(part):
        leave(f"{text!r} is not a job id: give the whole id, or at least 4 digits of its end or beginning", NO_SUCH_JOB)
    seen = list(client.jobs(limit=LOOKED_AT))
    found = [job for job in seen if job.id.endswith(part) or job.id.startswith(part)]
    if not found:
        since = f" back to {seen[-1].created_at:%Y-%m-%d %H:%M:%S} UTC" if len(seen) == LOOKED_AT else ""
        leave(f"none of the newest {len(seen)} jobs{since} has the id {text}: give the whole id", NO_SUCH_JOB)
    if len(found) > 1:
        leave(f"{text} matches {len(found)} jobs; give more of the id:\n{_named(found)}", USAGE)
    return found[0].id


def _named(jobs: Sequence[Job]) -> str:
    """Write a line for each of the first jobs, to choose from, and how many more there are."""
    from hasty.cli.output import ago

    rows = [(job.id, job.phase or job.status, job.kind, ago(job.created_at)) for job in jobs[:NAMED]]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(jobs) - len(rows)
    return "\n".join(f"  {line}" for line in (*lines, *([f"and {more} older ones"] if more else [])))
