"""Places in the code at which a test can make this process die, stall or lose its client.

All of it is dead code unless the environment held HASTY_FAULTS_DIR when the process started. Then SIGUSR2 makes the
process read the file `<folder>/<its pid>`, remove it (the tester sees by that that it was read) and obey it, one
command a line:

    crash <point> [nth]   SIGKILL of itself at the nth passing of that point from now on (default 1)
    block <seconds>       block the event loop
    clock <seconds>       shift the process's wall clock, as `clock_shift_s` gives it
    <name>                whatever was registered by `on_command`, such as close-client
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any


@dataclass
class _Faults:
    shift_s: float = 0.0
    commands: dict[str, Callable[[], None]] = field(default_factory=dict)


_FOLDER = os.environ.get("HASTY_FAULTS_DIR")
_faults = _Faults()
_armed: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Die here when a test has armed this point; otherwise nothing."""
    if _armed:
        _pass(name)


def clock_shift_s() -> float:
    """By how many seconds a test has moved this process's wall clock; 0 outside of such tests."""
    return _faults.shift_s


def on_command(name: str, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a test start `callback` as a task of the running loop by the command `name`; the last registration wins."""
    if _FOLDER is None:
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


def install() -> None:
    """Obey SIGUSR2 if the environment held HASTY_FAULTS_DIR when this process started; main thread only."""
    if _FOLDER is None:
        return
    folder = Path(_FOLDER)

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        _obey_file(folder / str(os.getpid()))

    signal.signal(signal.SIGUSR2, on_signal)
    _tell(f"faults can be injected into this process by {_FOLDER}")


def _pass(name: str) -> None:
    left = _armed.get(name)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[name] = left - 1


def _obey_file(path: Path) -> None:
    """Never raises: it runs in a signal handler, where an exception would come up anywhere in the program."""
    try:
        # Read and removed before anything is obeyed: this is the loop's own thread, so nothing passes in between.
        lines = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
    except OSError as error:
        _tell(f"no fault to inject: {error}")
        return
    for line in lines:
        _tell(f"fault injected: {line}")
        try:
            _obey(line.split())
        except ValueError as error:
            _tell(f"not a fault: {line}: {error}")


def _obey(command: list[str]) -> None:
    match command:
        case ["crash", point]:
            _armed[point] = 1
        case ["crash", point, nth]:
            _armed[point] = int(nth)
        case ["block", seconds]:
            time.sleep(float(seconds))
        case ["clock", seconds]:
            _faults.shift_s = float(seconds)
        case [name] if name in _faults.commands:
            _faults.commands[name]()
        case _:
            raise ValueError("nobody here knows it")


def _tell(line: str) -> None:
    # Not a log line: the signal may have come in the middle of one, while the log's lock is held.
    os.write(sys.stderr.fileno(), f"{line}\n".encode())
