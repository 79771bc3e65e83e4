"""What `make` says on a machine on which nothing of Hasty can run yet."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hasty.server.local_stack.resources import CODE

MAKE = shutil.which("make") or "make"


def make(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of make with the project's Makefile in an empty folder."""
    shutil.copy(CODE / "Makefile", folder)
    command = [MAKE, "--no-print-directory", "-C", str(folder), *arguments]
    # Not as a part of the make that runs the tests.
    outside = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    answer = subprocess.run(command, env=outside, capture_output=True, text=True, check=False)  # noqa: S603 - all ours
    return answer.returncode, answer.stdout, answer.stderr


def a_python(folder: Path, script: str) -> str:
    """Something that is called like Python and behaves like `script`."""
    python = folder / "some-python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return f"PYTHON={python}"


def test_make_alone_names_every_target(tmp_path: Path) -> None:
    """No target without a line that says what it is for."""
    code, output, _ = make(tmp_path)
    phony = set(re.findall(r"^\.PHONY: (\S+)$", (CODE / "Makefile").read_text(), re.MULTILINE))
    assert code == 0
    assert set(re.findall(r"^  make (\S+) +\S", output, re.MULTILINE)) == phony
    assert {"up", "test", "check"} <= phony


@pytest.mark.parametrize("target", ["up", "test"])
def test_too_old_python_is_one_line_with_what_to_install(tmp_path: Path, target: str) -> None:
    """The first thing that goes wrong for many."""
    old = a_python(tmp_path, '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1')
    code, output, errors = make(tmp_path, target, old)
    complaints = [line for line in errors.splitlines() if not line.startswith("make: ***")]
    assert (code, output, len(complaints)) == (2, "", 1)
    assert "hasty: Python 3.11 or later is needed" in complaints[0]
    assert "is Python 3.9.2: install one" in complaints[0]


def test_python_without_venv_is_one_line_with_what_to_install(tmp_path: Path) -> None:
    """Debian packs it on its own."""
    bare = a_python(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    code, output, errors = make(tmp_path, "up", bare)
    complaints = [line for line in errors.splitlines() if not line.startswith("make: ***")]
    assert (code, output, len(complaints)) == (2, "", 1)
    assert "apt-get install python3-venv" in complaints[0]


def test_no_python_at_all_is_one_line(tmp_path: Path) -> None:
    """It says which name was looked for."""
    code, output, errors = make(tmp_path, "up", "PYTHON=no-such-python")
    complaints = [line for line in errors.splitlines() if not line.startswith("make: ***")]
    assert (code, output, len(complaints)) == (2, "", 1)
    assert "hasty: Python 3.11 or later is needed, and no-such-python is " in complaints[0]
