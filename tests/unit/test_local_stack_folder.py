"""The folder of a stack: one stack at a time, and logs that do not grow without end."""

import os
from pathlib import Path

import pytest

from hasty.server.local_stack.errors import AlreadyRunningError, StackError
from hasty.server.local_stack.folder import Folder


def test_a_second_stack_in_the_folder_is_told_who_has_it(tmp_path: Path) -> None:
    """One line with the pid and what to do."""
    with (
        Folder.claimed(tmp_path),
        pytest.raises(AlreadyRunningError, match=rf"\(pid {os.getpid()}\): end it first"),
        Folder.claimed(tmp_path),
    ):
        pass


def test_the_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    """Nothing but data and logs stays behind."""
    with Folder.claimed(tmp_path) as folder:
        folder.tell("http://x", [], ready=True)
        assert (tmp_path / "stack.json").exists()
    assert not (tmp_path / "stack.json").exists()
    with Folder.claimed(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """Such as one below a file."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be written"), Folder.claimed(tmp_path / "file" / "folder"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"children": 3}', '{"children": [{"pid": "x"}, 4]}'])
def test_a_broken_stack_json_stops_nobody(tmp_path: Path, content: str) -> None:
    """It is what a crash may leave."""
    (tmp_path / "stack.json").write_text(content)
    with Folder.claimed(tmp_path):
        pass


def test_a_start_turns_the_log_over(tmp_path: Path) -> None:
    """The log of this run is empty, that of the last one is beside it."""
    with Folder.claimed(tmp_path) as folder:
        folder.log("nats").write_text("before\n")
        assert folder.log("nats").read_text() == ""
    assert (tmp_path / "logs" / "nats.log.1").read_text() == "before\n"


def test_log_over_the_limit_is_rotated_while_it_is_written(tmp_path: Path) -> None:
    """The writer goes on appending to the same file, which begins anew."""
    with Folder.claimed(tmp_path) as folder:
        log = folder.log("nats")
        with log.open("ab", buffering=0) as writer:
            writer.write(b"x" * 101)
            folder.turn_logs(limit_bytes=100)
            writer.write(b"next\n")
    assert log.read_text() == "next\n"
    assert log.with_suffix(".log.1").stat().st_size == 101


def test_log_is_dropped_when_there_is_no_space_for_its_copy(tmp_path: Path) -> None:
    """Otherwise the log itself would keep the disk full."""
    with Folder.claimed(tmp_path) as folder:
        log = folder.log("nats")
        copy = log.with_suffix(".log.1")
        copy.symlink_to("/dev/full")
        log.write_bytes(b"x" * 101)
        folder.turn_logs(limit_bytes=100)
    assert (log.read_bytes(), copy.is_symlink()) == (b"", False)


def test_folder_on_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """Such as one whose lock cannot be written."""
    (tmp_path / "stack.lock").symlink_to("/dev/full")
    with pytest.raises(StackError, match="cannot be written"), Folder.claimed(tmp_path):
        pass
