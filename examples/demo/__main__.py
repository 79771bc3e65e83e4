"""`make demo`: 200 jobs on three job-servers, one of which is killed while you watch."""

import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hasty.client import AsyncHasty, Job, NewJob
from hasty.server.local_stack import Stack, StackConfig

JOBS = 200
JOB_SERVERS = 3
SECONDS = 6.0
WITHIN_S = 120.0
ACK_WAIT_S = 3
"""After so many seconds without a sign of a job-server, others start its jobs."""


def say(text: str) -> None:
    """Write a line that is seen at once."""
    print(text, flush=True)  # noqa: T201 - it is a command


async def main() -> int:
    """Run it all; 0 when nothing was lost."""
    logging.disable(logging.INFO)
    environment = {"HASTY_WORK": str(Path(__file__).with_name("tasks.py")), "HASTY_ACK_WAIT_S": str(ACK_WAIT_S)}
    say(f"starting an api-server and {JOB_SERVERS} job-servers, each with places for 100 jobs")
    with tempfile.TemporaryDirectory(prefix="hasty-demo-") as folder:
        config = StackConfig(folder=Path(folder), job_servers=JOB_SERVERS, environment=environment)
        async with Stack.running(config, lambda _text: None) as stack, AsyncHasty(stack.url) as hasty:
            say(f"look: {stack.url}/ui/")
            while len([worker for worker in await hasty.workers() if "work" in worker.kinds]) < JOB_SERVERS:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.2)
            return await show(stack, hasty)


async def show(stack: Stack, hasty: AsyncHasty) -> int:
    """Submit the jobs, kill a job-server in the middle of its own, and count."""
    answers = await hasty.submit_many(NewJob("work", {"seconds": SECONDS}) for _ in range(JOBS))
    accepted = [job for job in answers if isinstance(job, Job)]
    say(f"{len(accepted)} jobs of {SECONDS:g} s are accepted")
    await asyncio.sleep(SECONDS / 2)
    victim = stack.children["job-server-1"]
    if victim.pid is not None:
        os.kill(victim.pid, signal.SIGKILL)
    say(f"killed job-server-1; in {ACK_WAIT_S} s the others start its jobs")
    return summary(accepted, await ended(hasty, len(accepted)))


async def ended(hasty: AsyncHasty, accepted: int) -> list[Job]:
    """Say each second how many have ended; all of them, when they have, or what there is when it takes too long."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        done = [job async for job in hasty.jobs(kind="work") if job.ended]
        say(f"  {len(done)} of {accepted} have ended")
        if len(done) >= accepted or time.monotonic() > deadline:
            return done
        await asyncio.sleep(1)


def summary(accepted: Sequence[Job], ended: Sequence[Job]) -> int:
    """Say what came of it."""
    lost = {job.id for job in accepted} - {job.id for job in ended if job.status == "finished"}
    moved = [job for job in ended if job.status == "finished" and job.output > 1]
    say(f"{len(accepted)} accepted, {len(ended)} ended, {len(lost)} lost, {len(moved)} moved")
    return 1 if lost or len(accepted) < JOBS else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
