"""The check of handlers' jobs: a figure counts only when each of them has finished with its own output."""

from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from benchmarks.load import BenchmarkError, Load
from benchmarks.systems import System

ECHO = "greet_command"
"""Its output is its input; the others' is a greeting."""


async def check_outputs(system: System, kind: str, load: Load) -> None:
    """Read every job of a load, which must be the latest one of its kind.

    Raises:
        BenchmarkError: one is missing, has not finished, or has another output than its own.
    """
    jobs = []
    async with aclosing(system.newest(kind)) as newest:
        async for job in newest:
            if not job["input"]["name"].startswith(f"{load.prefix}-"):
                break
            jobs.append(job)
    if found := faults(kind, jobs, load):
        raise BenchmarkError(f"{len(found)} faults among {len(jobs)} jobs of {kind}, such as: {'; '.join(found[:3])}")


def faults(kind: str, jobs: Iterable[dict[str, Any]], load: Load) -> list[str]:
    """What is wrong with the jobs of a load."""
    names, found = [], []
    for job in jobs:
        name = job["input"]["name"]
        names.append(name)
        expected = job["input"] if kind == ECHO else f"hello {name}"
        if (job["status"], job["output"]) != ("finished", expected):
            found.append(f"{job['id']} of {name} is {job['status']} with {job['output']!r} and {job['error']!r}")
    # Up to `connections` more were sent, whose answers were not read any more.
    if not load.accepted <= len(names) <= load.accepted + load.connections:
        found.append(f"{load.accepted} were answered 201, and {len(names)} are listed")
    if len(names) != len(set(names)):
        found.append(f"{len(names) - len(set(names))} are listed twice")
    return found
