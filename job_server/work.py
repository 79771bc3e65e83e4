"""The built-in work of the root kind: to sleep. It needs no child process.

`Work` starts a turn's work and returns at once. It calls `ended` exactly once, when the work is done, with how it ended
and the seconds it took; it never calls it after the function it returned was called, which stops the work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hasty.jobs import Status, Turn
from hasty.server.runtime.timers import TimerQueue
from job_server.domain import ended_after

Ended = Callable[[Status, float], None]
Stop = Callable[[], None]
Work = Callable[[Turn, Ended], Stop]


def sleeping(timers: TimerQueue, choose_s: Callable[[], float], timeout_s: float) -> Work:
    """Return the work that sleeps for as long as `choose_s` says, under a timeout; both in seconds.

    It costs an entry in the timer queue and no task, so a process can hold many thousands.
    """

    def start(_turn: Turn, ended: Ended) -> Stop:
        status, after_s = ended_after(choose_s(), timeout_s)
        return timers.after(after_s, partial(ended, status, after_s)).cancel

    return start
