"""What a fork of a child or a worker may do: go on with the handler's code, and with nothing else of its parent's.

A fork that went on as its parent would take messages that are not its own, run its neighbours a second time, and report
endings. So it loses its parent's descriptors, ends when it would leave the handler's code, and ends with its parent,
where a process can ask for that. Only a fork that a handler makes past Python, in C, is not noticed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

THREAD_PREFIX: Final = "handler"
"""How the names of the threads begin in which handlers run."""

PR_SET_PDEATHSIG: Final = 1


@dataclass
class _Process:
    """This process: what a hook of `os.fork` has to know."""

    private: set[int] = field(default_factory=set)
    prctl: Callable[..., int] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    dropped: list[Any] = field(default_factory=list)
    is_fork: bool = False


_this: Final = _Process()


def watch(descriptor: int) -> None:
    """Have this process end with its parent, and forks of it be forks; `descriptor` is the socket to the parent."""
    if sys.platform == "linux":
        _this.prctl = ctypes.CDLL(None).prctl
        _end_with_parent()
    keep_private(descriptor)
    os.register_at_fork(after_in_child=_begin_fork)


def leave_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Note the loop that forks must not run on."""
    _this.loop = loop


def keep_private(descriptor: int) -> None:
    """Note a descriptor that forks do not get."""
    _this.private.add(descriptor)


def give_back(descriptor: int) -> None:
    """Note that a descriptor is not private any more."""
    _this.private.discard(descriptor)


def end_if_forked() -> None:
    """End this process when it is a fork: the handler's code is over."""
    if _this.is_fork:
        os._exit(0)


def _end_with_parent() -> None:
    if _this.prctl is not None:
        _this.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _begin_fork() -> None:
    _this.is_fork = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in _this.private:
        # In its place, so that whoever still uses the number meets nobody.
        os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    # The kernel means the thread that forked: one that may end earlier than the process must not take the fork along.
    thread = threading.current_thread()
    if thread is threading.main_thread() or thread.name.startswith(THREAD_PREFIX):
        _end_with_parent()
    if _this.loop is not None:
        # What waits there are its neighbours, who run in the parent. There is no public way to drop it.
        ready: Any = getattr(_this.loop, "_ready", None)
        if ready is not None:
            # Kept, or asyncio would warn of each task that is dropped before its end.
            _this.dropped = list(ready)
            ready.clear()
        _this.loop.call_soon(os._exit, 0)
