"""What makes the child and its workers good children: they die with their parent, and first when memory is short."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import Final

from hasty.executor import forks

OOM_SCORE: Final = 700
"""The kernel ends the child before the job-server, and the job-server before what it does not know."""


def prepare(channel: socket.socket) -> None:
    """Make this process end with its parent, and the channel unknown to what it starts and to its forks."""
    channel.set_inheritable(False)
    forks.watch(channel.fileno())
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
