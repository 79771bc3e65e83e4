"""The programs the stack starts: where they are, and how the database gets there."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from local_stack.errors import MissingProgramError

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / ".hasty" / "programs"
SECANTUSDB = ROOT / "requirements" / "secantusdb.txt"


def find(name: str) -> str:
    """The path of a program: beside this Python, else on the PATH."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.is_file() else shutil.which(name)
    if path is None:
        raise MissingProgramError(f"the program {name} is not installed: run `make install`")
    return path


def unpacked_secantusdb(folder: Path = PROGRAMS) -> Path:
    """Where the database's wheel is, or will be, unpacked; named after the lock it comes from."""
    return folder / f"secantusdb-{sha256(SECANTUSDB.read_bytes()).hexdigest()[:12]}"


def secantusd(folder: Path = PROGRAMS) -> str:
    """The path of `secantusd-rs`, unpacked into `folder` when it is not there yet.

    Any number of processes may ask at once: one unpacks, the others wait for it. What was unpacked gets its name only
    when complete, so that a folder of that name is whole.
    """
    unpacked = unpacked_secantusdb(folder)
    program = unpacked / "secantusdb.scripts" / "secantusd-rs"
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not unpacked.is_dir():
                with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as work:
                    _install(Path(work) / "new")
                    (Path(work) / "new").rename(unpacked)
    if not os.access(program, os.X_OK):
        raise MissingProgramError(f"secantusd-rs is not in {unpacked}: remove that folder and start again")
    return str(program)


def _install(target: Path) -> None:
    # A plain executable, so the wheel's Python version says nothing about the Python that runs this.
    answer = subprocess.run(  # noqa: S603 - every argument is ours
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--no-deps", "--no-compile", "--only-binary", ":all:", "--python-version", "3.13"),
            *("--require-hashes", "--requirement", str(SECANTUSDB), "--target", str(target)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise MissingProgramError(
            f"the database program cannot be fetched ({last}): mend that, or set HASTY_API_MONGO_URL and "
            "HASTY_JOB_MONGO_URL to databases of your own"
        )
