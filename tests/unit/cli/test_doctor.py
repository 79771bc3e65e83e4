"""What the doctor finds, and what it says to do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hasty.cli.doctor import Facts, of_a_system
from hasty.client import DeadLetter
from tests.unit.cli.views import AT, KIND, OVERVIEW, WORKER

WELL = Facts([KIND], [WORKER], OVERVIEW, [], 0.1, AT)
SILENT = replace(WORKER, worker="w-2", silent=True, last_sign_s=12, held=3)
OTHER = replace(WORKER, worker="w-2", kinds={"greet": "v2"})
LETTER = DeadLetter("1", AT - timedelta(hours=1), "job:finished", "malformed", "x", 1)


def test_nothing_is_wrong_with_what_is_well() -> None:
    """The verdict is told all the same."""
    found = list(of_a_system(WELL))
    assert [each.todo for each in found] == [None, None]
    assert found[0].what == "the verdict: All is well"


@pytest.mark.parametrize(
    ("changed", "what", "todo"),
    [
        ({"workers": []}, "no job-server is running", "start one"),
        ({"workers": [WORKER, SILENT]}, "w-2 has been silent for 12 s, with 3 jobs", "HASTY_ACK_WAIT_S"),
        ({"workers": [WORKER, OTHER]}, "several versions are served at once: greet", "deployment"),
        ({"kinds": [replace(KIND, workers=())]}, "no job-server serves greet", "HASTY_WORK"),
        (
            {"kinds": [replace(KIND, free_slots=0)], "overview": replace(OVERVIEW, unfinished=2)},
            "all places for greet are taken",
            "more job-servers",
        ),
        ({"kinds": [replace(KIND, name="sleep", versions=(), workers=())]}, "no handlers", "docs/handlers.md"),
        ({"clock": AT - timedelta(seconds=60)}, "clock is 60 s ahead of", "NTP"),
        ({"clock": AT + timedelta(seconds=60)}, "clock is 60 s behind", "NTP"),
        ({"took_s": 2.5}, "took 2.5 s", "load"),
        ({"dead_letters": [LETTER]}, "malformed (job:finished)", "docs/logs.md"),
    ],
)
def test_what_is_wrong_is_found(changed: dict[str, Any], what: str, todo: str) -> None:
    """With what to do; nothing else is complained about."""
    [wrong] = [each for each in of_a_system(replace(WELL, **changed)) if each.todo is not None]
    assert what in wrong.what
    assert wrong.todo is not None
    assert todo in wrong.todo


def test_busy_system_is_well() -> None:
    """As long as nothing waits."""
    busy = replace(WELL, kinds=[replace(KIND, free_slots=0)])
    assert [each for each in of_a_system(busy) if each.todo is not None] == []


def test_silent_worker_serves_no_version() -> None:
    """It is complained about once."""
    found = of_a_system(replace(WELL, workers=[WORKER, replace(OTHER, silent=True)]))
    assert len([each for each in found if each.todo is not None]) == 1


def test_old_dead_letters_are_no_news() -> None:
    """They are kept for a month."""
    old = replace(LETTER, at=datetime(2020, 1, 1, tzinfo=UTC))
    assert [each for each in of_a_system(replace(WELL, dead_letters=[old])) if each.todo is not None] == []
