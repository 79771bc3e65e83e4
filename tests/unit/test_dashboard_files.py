"""The dashboard's files: small, whole, its own or unchanged, and nothing from elsewhere."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from hasty.server.local_stack.resources import resource

FOLDER = resource("dashboard/index.html").parent
VENDOR = FOLDER / "vendor"
LIST = VENDOR / "vendored.txt"
WIRE_MAX = 120 * 1024
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
OWN = [path for path in FILES if not path.is_relative_to(VENDOR)]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]


def name(path: Path) -> str:
    """A file as the tests call it."""
    return str(path.relative_to(FOLDER))


def test_files_of_others_are_unchanged_and_listed() -> None:
    """Each with its hash, package, version and licence; the licences are beside them."""
    rows = [line.split() for line in LIST.read_text().splitlines() if not line.startswith("#")]
    assert {path: sha for sha, path, *_ in rows} == {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FILES
        if path.is_relative_to(VENDOR) and path != LIST
    }
    assert all(len(row) == 5 for row in rows)
    for folder in {Path(path).parts[0] for _, path, *_ in rows}:
        assert (VENDOR / folder / "LICENSE").is_file()


def test_everything_is_small_over_the_wire() -> None:
    """As nginx compresses it."""
    sent = [path for path in FILES if path.suffix in {".html", ".js", ".css", ".svg"}]
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in sent) < WIRE_MAX


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_imports_lead_to_files(path: Path) -> None:
    """A module that is missing leaves the page empty."""
    for found in re.findall(r'^(?:import|export) .*?from "([^"]+)";', path.read_text(), re.MULTILINE):
        assert (path.parent / found).is_file(), found


def test_page_names_files_that_exist() -> None:
    """And has neither script nor style of its own, which its policy would refuse."""
    text = (FOLDER / "index.html").read_text()
    for found in re.findall(r'(?:href|src)="/ui/([^"]+)"', text):
        assert (FOLDER / found).is_file(), found
    assert re.findall(r"<script[^>]*>[^<]", text) == []
    assert "<style" not in text
    assert re.findall(r"\s(?:on\w+|style)=", text) == []


@pytest.mark.parametrize("path", OWN, ids=name)
def test_nothing_comes_from_another_origin(path: Path) -> None:
    """No address in any file, but the name of SVG's own vocabulary."""
    text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"\b(?:https?|wss?)://[\w.]+", text) == []


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix in {".js", ".css"}], ids=name)
def test_files_are_short_and_free_of_code_from_text(path: Path) -> None:
    """What trusted types forbid is not tried."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert re.findall(r"\binnerHTML\b|\beval\(|new Function\(|document\.write|unsafeHTML", text) == []
