"""The programs the stack starts: where they are, and how the database gets there."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from hasty.server.local_stack.errors import MissingProgramError
from hasty.server.local_stack.resources import resource

SECANTUSDB = resource("requirements/secantusdb.txt")
# A plain executable, so the wheel's Python version says nothing about the Python that runs this.
WHEEL_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--python-version", "3.13", "--require-hashes")


def find(name: str) -> str:
    """The path of a program: beside this Python, else on the PATH."""
    path = _look_for(name)
    if path is None:
        raise MissingProgramError(
            f"the program {name} is not installed: pip install 'hasty-jobs[server]', or `make install` in a checkout"
        )
    return path


def cache() -> Path:
    """The user's folder for what can be downloaded again."""
    return platformdirs.user_cache_path("hasty", appauthor=False)


def unpacked_secantusdb(folder: Path) -> Path:
    """Where the database's wheel is, or will be, unpacked; named after the lock it comes from."""
    return folder / f"secantusdb-{sha256(SECANTUSDB.read_bytes()).hexdigest()[:12]}"


def secantusd(folder: Path | None = None) -> str:
    """The path of `secantusd-rs`, unpacked into `folder` (default: `cache()`) when it is not there yet.

    Any number of processes may ask at once: one unpacks, the others wait for it. What was unpacked gets its name only
    when complete, so that a folder of that name is whole.
    """
    folder = folder or cache()
    unpacked = unpacked_secantusdb(folder)
    program = unpacked / "secantusdb.scripts" / "secantusd-rs"
    if not unpacked.is_dir():
        try:
            _unpack(folder, unpacked)
        except OSError as error:
            raise MissingProgramError(
                f"SecantusDB cannot be unpacked into {folder} ({error.strerror}): make that folder writable, or choose "
                "another one with XDG_CACHE_HOME"
            ) from error
    if not os.access(program, os.X_OK):
        raise MissingProgramError(f"secantusd-rs is not in {unpacked}: remove that folder and start again")
    return str(program)


def _unpack(folder: Path, unpacked: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if unpacked.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as work:
            _install(Path(work) / "new", Path(work))
            (Path(work) / "new").rename(unpacked)


def _install(target: Path, work: Path) -> None:
    _run([*_installer(work), *WHEEL_OPTIONS, "--requirement", str(SECANTUSDB), "--target", str(target)])


def _installer(work: Path) -> list[str]:
    """The command that installs wheels: pip if this Python has it, else uv, else pip in an environment below `work`."""
    if find_spec("pip") is not None:
        return _pip(sys.executable)
    if uv := _look_for("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    _run([sys.executable, "-P", "-m", "venv", str(work / "pip")])
    return _pip(str(work / "pip" / "bin" / "python"))


def _pip(python: str) -> list[str]:
    quiet = ("--quiet", "--quiet", "--disable-pip-version-check", "--no-input")
    return [python, "-P", "-m", "pip", "install", *quiet, "--no-compile"]


def _run(command: list[str]) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - every argument is ours
    if answer.returncode != 0:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines() or ["no reason given"]
        raise MissingProgramError(
            f"SecantusDB cannot be downloaded ({said[-1]}): fix that, or set HASTY_API_MONGO_URL and "
            "HASTY_JOB_MONGO_URL to databases of your own"
        )


def _look_for(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)
