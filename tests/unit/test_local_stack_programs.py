"""The programs of the stack are found, or missed in one line."""

import re

import pytest

from local_stack import programs
from local_stack.errors import MissingProgramError


def test_a_program_is_found_beside_this_python() -> None:
    """Its own venv comes before anything on the PATH."""
    assert programs.find("nats-server").endswith("/nats-server")


def test_a_missing_program_is_one_line_that_says_what_to_do() -> None:
    """No traceback, no search through the PATH by hand."""
    with pytest.raises(MissingProgramError, match=r"^the program no-such-thing is not installed: run `make install`$"):
        programs.find("no-such-thing")


def test_the_database_is_pinned_by_hash_and_needs_no_compiler() -> None:
    """The wheels of three platforms, all of the same version."""
    lock = programs.SECANTUSDB.read_text()
    assert re.findall(r"^secantusdb==(\S+)", lock, re.MULTILINE) == ["0.6.0b17"]
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock)) == 3
