"""What `hasty top` draws."""

import io
from dataclasses import replace

from rich.console import Console

from hasty.cli.top import Picture, drawn
from hasty.client.model import Job, decoded
from tests.unit.cli.views import KIND, OVERVIEW, WORKER
from tests.unit.client.scripted import job

RUNS = job(phase="running", worker="w-1", progress={"done": 0.5, "note": "[bold]half"}, why="attempt 1 runs")


def text_of(picture: Picture, trouble: str = "", width: int = 120) -> str:
    """What is drawn, without colors."""
    console = Console(file=io.StringIO(), width=width)
    console.print(drawn(picture, "http://here", trouble))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_system_is_drawn() -> None:
    """The ledger, workers, kinds, and what runs; the names that users gave are no markup."""
    silent = replace(WORKER, worker="w-2", silent=True)
    sleep = replace(KIND, name="sleep", versions=())
    text = text_of(Picture(OVERVIEW, [WORKER, silent], [KIND, sleep], [decoded(Job, RUNS)]))
    assert "7 accepted = 4 finished + 2 failed + 0 cancelled + 1 processing" in text
    assert "to start p50 0.01 s, p95 0.02 s, p99 0.03 s; to end unknown" in text
    assert "━━━━━───── 50% [bold]half" in text
    assert ("sleep" in text, "silent" in text, "attempt 1 runs" in text) == (False, True, True)


def test_narrow_terminal_breaks_no_line() -> None:
    """What does not fit is cut off."""
    text = text_of(Picture(OVERVIEW, [WORKER], [KIND], [decoded(Job, {**RUNS, "why": "x" * 200})]), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "x" * 61 not in text
    assert "…" in text


def test_stale_picture_says_so() -> None:
    """While nobody answers."""
    assert "cannot be reached; this is 3 s old" in text_of(
        Picture(OVERVIEW, [], [], []), "cannot be reached; this is 3 s old"
    )
