"""A disk that can be full: real where this user may mount, and a clear answer where not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.chaos.disks import CannotMount, Disk


async def test_a_full_disk_refuses_and_a_free_one_takes(tmp_path: Path) -> None:
    """What is there stays, nothing can be added, until there is space again."""
    disk, obstacle = await _mounted(tmp_path)
    if disk is None:
        assert "a disk can only be filled" in obstacle
        return
    try:
        (tmp_path / "kept").write_bytes(b"x" * 10_000)
        await disk.fill()
        with pytest.raises(OSError, match="No space left") as refused:
            (tmp_path / "more").write_bytes(b"x" * 10_000)
        assert refused.value.errno == errno.ENOSPC
        await disk.free()
        (tmp_path / "more").write_bytes(b"x" * 10_000)
        assert (tmp_path / "kept").read_bytes() == b"x" * 10_000
    finally:
        await disk.unmount()


async def _mounted(folder: Path) -> tuple[Disk | None, str]:
    try:
        return await Disk.mounted(folder), ""
    except CannotMount as obstacle:
        return None, str(obstacle)


async def test_who_may_not_mount_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run says it of each kind that needs a disk, instead of leaving the kind out without a word."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _name: None)

    with pytest.raises(CannotMount, match="only be filled as root, or with sudo"):
        await Disk.mounted(tmp_path)
