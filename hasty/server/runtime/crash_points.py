"""Places in the code at which a test can make this process die, stall or lose its client.

All of it is dead code unless `install` was given a folder, which is HASTY_FAULTS_DIR. Then SIGUSR2 makes the process
read the file `<folder>/<its pid>`, remove it (the tester sees by that that it was read) and obey it, one command a
line:

    crash <point> [nth]   SIGKILL of itself at the nth passing of that point from now on (default 1)
    block <seconds>       block the event loop
    clock <seconds>       shift the process's wall clock, as `clock_shift_s` gives it
    <name>                whatever was registered by `on_command`, such as close-client
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any


class CrashPoint(StrEnum):
    """Every place at which a process can be made to die; published chaos runs name them by these values."""

    API_BEFORE_INSERT = "api.before_insert"
    API_AFTER_INSERT = "api.after_insert"
    API_BEFORE_PUBLISH = "api.before_publish"
    API_AFTER_PUBLISH = "api.after_publish"
    API_DUE_SELECTED = "api.dispatcher_selected"
    API_BEFORE_ENDING_WRITE = "api.before_outcome_write"
    API_AFTER_ENDING_WRITE = "api.after_outcome_write"
    JOB_AFTER_FETCH = "job.after_fetch"
    JOB_MID_WORK = "job.mid_work"
    JOB_BEFORE_RECORD = "job.before_outcome"
    JOB_AFTER_RECORD = "job.after_outcome"
    JOB_AFTER_PUBLISH = "job.after_publish"
    JOB_AFTER_ACK = "job.after_ack"
    PUBLISH_MID_BATCH = "publish.mid_batch"


@dataclass
class _Faults:
    folder: Path | None = None
    shift_s: float = 0.0
    commands: dict[str, Callable[[], None]] = field(default_factory=dict)


_faults = _Faults()
_armed: dict[CrashPoint, int] = {}


def crash_point(point: CrashPoint) -> None:
    """Die here when a test has armed this point; otherwise nothing."""
    if _armed:
        _pass(point)


def clock_shift_s() -> float:
    """By how many seconds a test has moved this process's wall clock; 0 outside of such tests."""
    return _faults.shift_s


def on_command(name: str, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a test start `callback` as a task of the running loop by the command `name`; the last registration wins."""
    if _faults.folder is None:
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def start() -> None:
        task = loop.create_task(callback(), name=f"fault {name}")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def wake_loop_and_start() -> None:
        loop.call_soon_threadsafe(start)

    _faults.commands[name] = wake_loop_and_start


def install(folder: Path | None) -> None:
    """Obey SIGUSR2 by the files in this folder; None changes nothing. Main thread only."""
    if folder is None:
        return
    _faults.folder = folder

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        _obey_file(folder / str(os.getpid()))

    signal.signal(signal.SIGUSR2, on_signal)
    _notify(f"faults can be injected into this process by {folder}")


def _pass(point: CrashPoint) -> None:
    left = _armed.get(point)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[point] = left - 1


def _obey_file(path: Path) -> None:
    """Never raises: it runs in a signal handler, where an exception would come up anywhere in the program."""
    try:
        # Read and removed before anything is obeyed: this is the loop's own thread, so nothing passes in between.
        lines = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
    except OSError as error:
        _notify(f"no fault to inject: {error}")
        return
    for line in lines:
        _notify(f"fault injected: {line}")
        try:
            _obey(line.split())
        except ValueError as error:
            _notify(f"not a fault: {line}: {error}")


def _obey(command: list[str]) -> None:
    match command:
        case ["crash", point]:
            _armed[CrashPoint(point)] = 1
        case ["crash", point, nth]:
            _armed[CrashPoint(point)] = int(nth)
        case ["block", seconds]:
            time.sleep(float(seconds))
        case ["clock", seconds]:
            _faults.shift_s = float(seconds)
        case [name] if name in _faults.commands:
            _faults.commands[name]()
        case _:
            raise ValueError("there is no such command")


def _notify(line: str) -> None:
    # Not a log line: the signal may have come in the middle of one, while the log's lock is held.
    with contextlib.suppress(OSError):  # a full disk, or a pipe that is not read
        os.write(sys.stderr.fileno(), f"{line}\n".encode())
