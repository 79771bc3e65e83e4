"""How much space is left on the disks that hold data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

MIB: Final = 2**20
FLOOR_MIB: Final = 256
"""The default of `HASTY_DISK_FLOOR_MIB`."""

ASK_AGAIN_S: Final = 1.0


def free_mib(folder: Path) -> int:
    """MiB that may still be written where `folder` is."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize // MIB


class FreeSpace:
    """Whether the disks of some folders have at least `floor_mib` MiB left; looks at most once a second."""

    def __init__(self, folders: Sequence[Path], floor_mib: float, now: Callable[[], float] = time.monotonic) -> None:
        self._folders = folders
        self._floor_mib = floor_mib
        self._now = now
        self._asked_at = float("-inf")
        self._shortage: str | None = None

    def shortage(self) -> str | None:
        """Which disk has too little, in words; None when all have enough, or cannot be asked."""
        if self._folders and self._now() - self._asked_at >= ASK_AGAIN_S:
            self._asked_at = self._now()
            before, self._shortage = self._shortage, self._look()
            if self._shortage and not before:
                log.warning("disk_space_low", reason=self._shortage)
            elif before and not self._shortage:
                log.info("disk_space_regained")
        return self._shortage

    def _look(self) -> str | None:
        for folder in self._folders:
            try:
                free = free_mib(folder)
            except OSError:  # not there yet, or no longer: what needs it will say so
                continue
            if free < self._floor_mib:
                return f"the disk of {folder} has {free} MiB left, and {self._floor_mib:g} MiB must stay free"
        return None
