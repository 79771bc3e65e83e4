"""Disks that are too small, or were full for a while: refused at the start, and healed afterwards."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, cast

from hasty.server.local_stack.child import Child
from hasty.server.local_stack.config import NATS
from hasty.server.local_stack.errors import DiskTooSmallError
from hasty.server.local_stack.part import Part, State, Tell
from hasty.server.messaging.topology import STREAMS
from hasty.server.runtime.disks import MIB, free_mib

ASK_EVERY_S = 3.0
ASK_AGAIN_S = 10.0
# A single refusal may be a moment's; one that lasts is latched.
REFUSALS_IN_A_ROW = 2
STREAM_MIB = sum(cast("int", config["max_bytes"]) for config in STREAMS.values()) // MIB


def require_space(parts: Iterable[Part], floor_mib: float) -> None:
    """Check that the parts' disks hold what these may keep, besides `floor_mib` MiB that stay free.

    DiskTooSmallError, with the size that is needed, when one does not.
    """
    disks: dict[int, _Disk] = {}
    for part in parts:
        if part.data is not None:
            disk = disks.setdefault(part.data.stat().st_dev, _Disk(part.data, floor_mib))
            if part.role == NATS:
                disk.needed_mib += max(0, STREAM_MIB - _used_mib(part.data))
    for disk in disks.values():
        free = free_mib(disk.folder)
        if free < disk.needed_mib:
            raise DiskTooSmallError(
                f"the disk of {disk.folder} has {free} MiB free, and {disk.needed_mib:.0f} MiB are needed (up to "
                f"{STREAM_MIB} MiB for messages, and {floor_mib:g} MiB that stay free): free some, choose another "
                "folder (hasty up --folder, make up FOLDER=), or lower HASTY_DISK_FLOOR_MIB"
            )


async def keep_storing(child: Child, tell: Tell, floor_mib: float) -> NoReturn:
    """Restart a broker or a database that stores nothing although it could; for as long as the stack runs."""
    while True:
        try:
            await _restart_if_refusing(child, tell, floor_mib)
        except Exception as error:  # noqa: BLE001 - the task's outermost place; the stack must not lose it
            tell(f"whether {child.name} stores cannot be asked ({type(error).__name__}: {error})")
            await asyncio.sleep(ASK_AGAIN_S)


async def _restart_if_refusing(child: Child, tell: Tell, floor_mib: float) -> NoReturn:
    """Restart a broker or a database that refuses every write although its disk has space again.

    After a full disk neither nats-server nor SecantusDB stores anything until it is restarted.
    """
    part = child.part
    if part.data is None or part.refusal is None:
        raise ValueError(f"{part.name} stores nothing")
    refusals = 0
    waiting = False
    async with part.refusal() as refusal:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            reason = await refusal() if child.state is State.READY else None
            refusals = refusals + 1 if reason else 0
            if refusals < REFUSALS_IN_A_ROW:
                continue
            free = free_mib(part.data)
            if free >= floor_mib:
                tell(f"{child.name} stores nothing ({reason}) and has {free} MiB of disk left: restarting it")
                await child.restart()
                refusals, waiting = 0, False
            elif not waiting:
                waiting = True
                tell(
                    f"{child.name} stores nothing ({reason}) and has {free} MiB of disk left: it is restarted when "
                    f"there are {floor_mib:g} MiB"
                )


class _Disk:
    """One disk, and how much must be free on it."""

    def __init__(self, folder: Path, needed_mib: float) -> None:
        self.folder = folder
        self.needed_mib = needed_mib


def _used_mib(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) // MIB
