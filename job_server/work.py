"""What a job does: the one seam behind which other work can be put.

`Work` starts a job's work and returns at once. It calls `ended` exactly once, when the work is done, with how it ended
and the seconds it took; it never calls it after the function it returned was called, which stops the work. The timeout
is part of the work: `sleeping` knows beforehand how long it takes, other work gets it from `as_task`.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from job_server.domain import Ending, Job, ended_after
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from job_server.agenda import Agenda

    Ended = Callable[[Ending, float], None]
    Stop = Callable[[], None]
    Work = Callable[[Job, Ended], Stop]

log = get_logger(__name__)


def sleeping(agenda: Agenda, choose_s: Callable[[], float], timeout_s: float) -> Work:
    """Return the work that sleeps for as long as `choose_s` says, under a timeout; both in seconds.

    It costs an entry in the agenda, no task and no timer, so a process can hold many thousands.
    """

    def start(_job: Job, ended: Ended) -> Stop:
        ending, after_s = ended_after(choose_s(), timeout_s)
        return agenda.after(after_s, partial(ended, ending, after_s)).cancel

    return start


def as_task(do: Callable[[Job], Awaitable[None]], timeout_s: float) -> Work:
    """Return work that runs an async function in a task of its own; a timeout or an error of it cancels the job."""

    def start(job: Job, ended: Ended) -> Stop:
        async def run() -> None:
            began = time.monotonic()
            ending = Ending.CANCELLED
            try:
                async with asyncio.timeout(timeout_s):
                    await do(job)
                ending = Ending.FINISHED
            except TimeoutError:
                log.warning("job_timed_out", job_id=job.job_id, timeout_s=timeout_s)
            except Exception:
                # A defect of the work is this job's own misfortune; the outcome must come all the same.
                log.exception("job_failed", job_id=job.job_id)
            ended(ending, round(time.monotonic() - began, 3))

        task = asyncio.get_running_loop().create_task(run(), name=f"job {job.job_id}")

        def stop() -> None:
            task.cancel()

        return stop

    return start
