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

LINUX = sys.platform == "linux"
LAUNCH = Path(__file__).with_name("launch.py")
PROC = Path("/proc")


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
        if LINUX:
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


def started(pid: int) -> str | None:
    """What tells the process `pid` from a later one with the same number; None when there is none."""
    if not LINUX:
        asked = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - all ours
        return answer.stdout.strip() or None
    fields = _stat(pid)
    if fields is None or fields.state == "Z":
        return None
    return f"{_boot_id()}/{fields.start_ticks}"


def members(leader: int) -> list[int]:
    """The living processes of the group that `leader` founded; elsewhere than on Linux nobody can tell."""
    if not LINUX:
        return []
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [pid for pid in pids if (stat := _stat(pid)) is not None and stat.group == leader and stat.state != "Z"]


def works_in(pid: int, folder: Path) -> bool:
    """Whether `folder` is the process' own."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cwd").resolve() == folder.resolve()
    return False


@dataclass(frozen=True)
class _Stat:
    state: str
    group: int
    start_ticks: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return _Stat(state=fields[0], group=int(fields[2]), start_ticks=int(fields[19]))


def _boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
