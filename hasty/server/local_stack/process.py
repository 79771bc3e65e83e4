"""One operating system process: started so that it cannot outlive the stack, known again by its start time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

# Only Linux ends a child when its parent ends. Elsewhere what a killed stack leaves running is ended by the next stack
# in its folder.
ENDS_WITH_PARENT = sys.platform == "linux"
LAUNCH = Path(__file__).with_name("launch.py")
# How far the beginning of a process may seem to move: it is reckoned from the clock, which is set right now and then.
CLOCK_CHANGE_S = 2.0


@dataclass(frozen=True)
class Command:
    """What to run, in which environment, and where."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class Process:
    """A running process that leads a group of its own, so that what it forked ends with it."""

    def __init__(self, inner: asyncio.subprocess.Process) -> None:
        self._inner = inner
        self.pid = inner.pid
        self.started = started(inner.pid)

    @classmethod
    async def start(cls, command: Command, log: Path, death_signal: signal.Signals = signal.SIGKILL) -> Self:
        """Start it with both outputs appended to `log`; on Linux it gets `death_signal` when this process ends."""
        arguments = list(command.arguments)
        if ENDS_WITH_PARENT:
            arguments = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), *arguments]
        with log.open("ab") as output:
            inner = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(command.environment),
                cwd=command.folder,
                start_new_session=True,
            )
        return cls(inner)

    @property
    def running(self) -> bool:
        """Whether its end has not been seen yet."""
        return self._inner.returncode is None

    async def wait(self) -> int:
        """Its exit code, negative for a signal; whatever it forked is gone as well then."""
        code = await self._inner.wait()
        kill_group(self.pid)
        while members(self.pid):  # noqa: ASYNC110 - only the kernel knows
            await asyncio.sleep(0.01)  # they die, but not in the moment of the signal
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.running:  # not asyncio's send_signal, which may reap the process and so lose its exit code
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and whatever it forked, now."""
        if self.running:
            kill_group(self.pid)


def kill_group(leader: int) -> None:
    """SIGKILL to the group that `leader` founded; nothing when none of it is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(leader, signal.SIGKILL)


def started(pid: int) -> float | None:
    """When the process `pid` began, in seconds since 1970; None when there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def is_same(pid: int, since: float) -> bool:
    """Whether `pid` is still the process that began at `since`, and not a later one with the same number."""
    now = started(pid)
    return now is not None and abs(now - since) < CLOCK_CHANGE_S


def members(leader: int) -> list[int]:
    """The living processes of the group that `leader` founded."""
    return [pid for pid in psutil.pids() if _group(pid) == leader and started(pid) is not None]


def works_in(pid: int, folder: Path) -> bool:
    """Whether `folder` is the process' own."""
    with contextlib.suppress(psutil.Error, OSError):
        return Path(psutil.Process(pid).cwd()).resolve() == folder.resolve()
    return False


def _group(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getpgid(pid)
    return None
