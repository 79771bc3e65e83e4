"""The process groups that the child has started, and their end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from hasty.executor import forks

GUARD: Final = Path(__file__).with_name("guard.py")


class Groups:
    """The groups that live; a guard kills them when this process is gone, see `hasty.executor.guard`."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._guard: subprocess.Popen[bytes] | None = None

    def note(self, group: int) -> None:
        """Note a group that was started; with the first one, start the guard."""
        if group in self._groups:
            return
        self._groups.add(group)
        if self._guard is None:
            self._start_guard()
        else:
            self._write([group])

    def forget(self, group: int) -> None:
        """Note that a group is gone."""
        self._groups.discard(group)
        self._write([-group])

    def kill(self) -> None:
        """Kill them all, now."""
        for group in self._groups:
            signal_group(group, signal.SIGKILL)

    def _start_guard(self) -> None:
        guard = subprocess.Popen(  # noqa: S603 - this Python, and a file of this package
            [sys.executable, "-I", "-S", GUARD],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._guard = guard
        if guard.stdin is not None:
            forks.keep_private(guard.stdin.fileno())
        self._write(self._groups)

    def _write(self, numbers: list[int] | set[int]) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            self._guard.stdin.write("".join(f"{number:+d}\n" for number in numbers).encode())
        except OSError:
            # Somebody has ended it.
            forks.give_back(self._guard.stdin.fileno())
            self._guard.stdin.close()
            self._guard.wait()
            self._start_guard()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
