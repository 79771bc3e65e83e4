"""A small disk of its own for one child's data, which can be full at once and free again.

It is a tmpfs: shrinking it to what it holds makes it full without writing a byte. Mounting needs root, or `sudo`
without a password; where neither is there, `Disk.obstacle` says so and the kinds that need it say it in the results.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOMY: Final = "3g"
_PAGE: Final = 4096
_SPARE_PAGES: Final = (1, 64, 1024, 16384)


class CannotMount(Exception):
    """This machine does not let us mount; the text says why."""


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs at `folder`."""

    folder: Path

    @classmethod
    async def mounted(cls, folder: Path) -> Disk:
        """Mount it.

        Raises:
            CannotMount: when this user may not.
        """
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await _as_root("mount", "-t", "tmpfs", "-o", f"size={_ROOMY},mode=0777", "tmpfs", str(folder))
        return cls(folder)

    async def fill(self) -> None:
        """Leave no free page; more than that is tried when something was written meanwhile."""
        for spare in _SPARE_PAGES:
            held = os.statvfs(self.folder)
            used = (held.f_blocks - held.f_bfree) * held.f_frsize
            try:
                await _as_root("mount", "-o", f"remount,size={used + spare * _PAGE}", str(self.folder))
            except CannotMount:
                if spare == _SPARE_PAGES[-1]:
                    raise
            else:
                return

    async def leave(self, mib: int) -> None:
        """Leave so many MiB free."""
        held = os.statvfs(self.folder)
        used = (held.f_blocks - held.f_bfree) * held.f_frsize
        await _as_root("mount", "-o", f"remount,size={used + mib * 2**20}", str(self.folder))

    async def free(self) -> None:
        """Give the space back."""
        await _as_root("mount", "-o", f"remount,size={_ROOMY}", str(self.folder))

    async def unmount(self) -> None:
        """Let go of it, with what it holds."""
        await _as_root("umount", "--lazy", str(self.folder))


async def _as_root(*command: str) -> None:
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise CannotMount("a disk can only be filled as root, or with sudo")
        command = ("sudo", "-n", *command)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate()
    if process.returncode != 0:
        raise CannotMount(f"a disk can only be filled where a tmpfs can be mounted: {complaint.decode().strip()}")
