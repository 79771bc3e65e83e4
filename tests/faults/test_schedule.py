"""The schedule: the seed decides it, every kind has its turn, and faults side by side do not touch the same part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.chaos_run import ChaosRun, next_fault
from tests.chaos.faults import ALL, handlers
from tests.chaos.plan import Plan

FOLDER = Path("nowhere")


def dealt(seed: int) -> list[str]:
    """The names of the first round of faults."""
    system: Any = SimpleNamespace(
        disks={"nats": 1, "api-mongo": 1, "job-mongo": 1}, no_disks="no root", tasks=SimpleNamespace(rate=12)
    )
    run = ChaosRun(Plan(seed=seed, folder=FOLDER), tell=lambda _line: None)
    return [kind.name for _, kind in run.deal(system, once=True)]


def test_the_seed_decides() -> None:
    """The same seed gives the same order, another one another."""
    assert dealt(1) == dealt(1)
    assert dealt(1) != dealt(2)


def test_every_kind_has_its_turn() -> None:
    """Once in each round."""
    assert sorted(dealt(3)) == sorted(ALL)


def test_faults_side_by_side_touch_different_parts() -> None:
    """Two faults of the same process would make a third one that nobody described."""
    waiting = list(enumerate([ALL["kill everything"], ALL["kill api-server"], ALL["zombie"]]))

    assert next_fault(waiting, []) == (0, ALL["kill everything"])
    assert next_fault(waiting, [ALL["kill job-server"]]) == (1, ALL["kill api-server"])
    assert next_fault(waiting, [ALL["kill everything"]]) is None


def test_what_cannot_be_injected_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Without disks of their own and without handlers, the kinds that need them are named with the reason."""
    system: Any = SimpleNamespace(disks={}, no_disks="no root", tasks=SimpleNamespace(rate=0))
    run = ChaosRun(Plan(seed=1, folder=FOLDER), tell=print)

    injected = {kind.name for _, kind in run.deal(system, once=True)}

    told = capsys.readouterr().out
    missing = set(ALL) - injected
    of_handlers = {kind.name for kind in handlers.KINDS}
    assert missing == {"broker disk full", "api-mongo disk full", "job-mongo disk full"} | of_handlers
    assert all(f"{name} cannot be injected here: no root" in told for name in missing - of_handlers)
    assert all(f"{name} cannot be injected here: there are no handlers" in told for name in of_handlers)
