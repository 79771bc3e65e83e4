"""What handlers note of their own runs: a file per process in the folder CHAOS_RUNS, a line of JSON each.

A line is written by one `write` to a file opened with O_APPEND, so that it is whole or missing. Times are Unix seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hasty import Context

ALIVE_EVERY_S: Final = 0.1

_open: dict[int, int] = {}
_guard = threading.Lock()
_begun: dict[int, int] = {}


def note(what: str, **facts: object) -> None:
    """Write a line; without CHAOS_RUNS, nothing."""
    folder = os.environ.get("CHAOS_RUNS")
    if not folder:
        return
    pid = os.getpid()
    descriptor = _open.get(pid)
    if descriptor is None:
        # A process that was forked has a file of its own, and so has one that gets the number of a former one.
        file = Path(folder) / f"{pid}-{time.time_ns()}.jsonl"
        descriptor = _open[pid] = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    line = {"what": what, "pid": pid, "at": time.time(), "monotonic": time.monotonic(), **facts}
    os.write(descriptor, json.dumps(line).encode() + b"\n")


@contextlib.contextmanager
def noted(ctx: Context) -> Iterator[None]:
    """Note begin and end of a run, and while any is under way that this process lives."""
    facts = {"job_id": ctx.job_id, "attempt": ctx.attempt, "run": ctx.run}
    note("start", kind=ctx.kind, **facts)
    _count(1)
    how = "returned"
    try:
        yield
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        _count(-1)
        note("end", how=how, **facts)


def _count(change: int) -> None:
    pid = os.getpid()
    with _guard:
        first = pid not in _begun
        _begun[pid] = _begun.get(pid, 0) + change
        if first:
            threading.Thread(target=_say_alive, daemon=True, name="alive").start()


def _say_alive() -> None:
    while True:
        time.sleep(ALIVE_EVERY_S)
        if _begun.get(os.getpid()):
            note("alive")
