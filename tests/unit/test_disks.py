"""How much space disks have left."""

from pathlib import Path

import pytest
import structlog

from hasty.server.runtime import disks
from hasty.server.runtime.disks import FreeSpace, free_mib

EXABYTE_MIB = 10**12


def test_no_disk_is_short_of_space_above_its_floor(tmp_path: Path) -> None:
    """The real disk of this folder has something left."""
    assert free_mib(tmp_path) > 0
    assert FreeSpace([tmp_path], floor_mib=0).shortage() is None


def test_shortage_names_the_disk_and_what_must_stay_free(tmp_path: Path) -> None:
    """One disk that is short is enough, and one that does not exist says nothing."""
    text = FreeSpace([tmp_path / "missing", tmp_path], floor_mib=EXABYTE_MIB).shortage()
    assert text is not None
    assert text.startswith(f"the disk of {tmp_path} has ")
    assert text.endswith(f" MiB left, and {EXABYTE_MIB:g} MiB must stay free")
    assert FreeSpace([], floor_mib=EXABYTE_MIB).shortage() is None


def test_disks_are_looked_at_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests ask; and a change is logged once."""
    clock, free = [100.0], [5]
    monkeypatch.setattr(disks, "free_mib", lambda _folder: free[0])
    space = FreeSpace([tmp_path], floor_mib=10, now=lambda: clock[0])
    with structlog.testing.capture_logs() as lines:
        assert space.shortage() is not None
        free[0] = 20
        clock[0] += 0.9
        assert space.shortage() is not None
        clock[0] += 0.1
        assert space.shortage() is None
        clock[0] += 1
        assert space.shortage() is None
    assert [line["event"] for line in lines] == ["disk_space_low", "disk_space_regained"]
