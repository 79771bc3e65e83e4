"""What the command says, in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hasty import client
from hasty.cli.exits import code_of
from hasty.cli.live import bar, line_of
from hasty.cli.output import ago, span
from hasty.client.errors import refused
from hasty.client.model import Job, decoded
from tests.unit.client.scripted import job


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_span_is_in_a_unit_that_fits(seconds: float, words: str) -> None:
    """Two of it at least."""
    assert span(seconds) == words


def test_times_are_told_from_now() -> None:
    """Behind and ahead."""
    assert ago(None) == ""
    assert ago(datetime.now(UTC) - timedelta(minutes=5)) == "5 min ago"
    assert ago(datetime.now(UTC) + timedelta(hours=5, seconds=1)) == "in 5 h"


def test_share_is_the_handlers_own() -> None:
    """Where it told none, none is shown; a note is no markup."""
    assert (bar(0, 4), bar(0.5, 4), bar(1, 4)) == ("────", "━━──", "━━━━")
    told = decoded(Job, job(phase="running", progress={"done": 0.5, "note": "[red]half"}, why="on it"))
    assert line_of(told) == rf"greet running · {bar(0.5)} 50% \[red]half · on it"
    silent = decoded(Job, job(phase="queued", why="all places are taken"))
    assert line_of(silent) == "greet queued · all places are taken"


@pytest.mark.parametrize(
    ("status", "problem", "code"),
    [
        (400, "malformed", 2),
        (404, "no-such-job", 3),
        (409, "key-taken", 8),
        (409, "still-processing", 1),
        (413, "too-large", 2),
        (422, "bad-input", 2),
        (500, "internal-error", 1),
        (503, "disk-full", 7),
    ],
)
def test_exit_code_tells_the_problem(status: int, problem: str, code: int) -> None:
    """So that scripts need not read it."""
    assert code_of(refused(status, {"type": f"urn:hasty:problem:{problem}"}, {})) == code


def test_exit_code_tells_what_came_instead() -> None:
    """Of an answer."""
    given: Any = decoded(Job, job())
    errors = [client.Unreachable(""), client.UnexpectedAnswer(""), client.WaitTimeout(given, 1)]
    assert [code_of(error) for error in errors] == [7, 7, 6]
