"""`python -m job_server`, unchanged but for one thing: it tells when it begins which job.

Each begin is one datagram to the port in `BENCH_BEGUN_PORT`: the object id and the machine's monotonic clock, which
all processes share.
"""

from __future__ import annotations

import os
import runpy
import socket
import time
from collections.abc import Callable

from hasty.jobs import Turn
from hasty.server.runtime.timers import TimerQueue
from job_server import work
from job_server.work import Ended, Stop, Work

PORT_VARIABLE = "BENCH_BEGUN_PORT"


def telling(port: int) -> Callable[[TimerQueue, Callable[[], float], float], Work]:
    """The service's own work behind a function that tells first."""
    board = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sleeping = work.sleeping

    def timed(timers: TimerQueue, choose_s: Callable[[], float], timeout_s: float) -> Work:
        begin = sleeping(timers, choose_s, timeout_s)

        def start(turn: Turn, ended: Ended) -> Stop:
            board.sendto(f"{turn.object_id} {time.monotonic_ns()}".encode(), ("127.0.0.1", port))
            return begin(turn, ended)

        return start

    return timed


if __name__ == "__main__":
    setattr(work, "sleeping", telling(int(os.environ[PORT_VARIABLE])))  # noqa: B010 - a patch, and meant as one
    runpy.run_module("job_server", run_name="__main__", alter_sys=True)
