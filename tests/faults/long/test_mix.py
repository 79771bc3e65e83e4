"""Two minutes of faults of all kinds, in two seeded orders: no invariant is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos_run import run_plan
from tests.chaos.faults import ALL
from tests.chaos.figures import COMMANDS
from tests.chaos.plan import Plan

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

PIECE_S = 60
RATE = 20
TASK_RATE = 8


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_minute_of_faults(seed: int, tmp_path: Path) -> None:
    """All kinds, three side by side; a kind this machine cannot do is named with its reason, on any machine."""
    plan = Plan(
        seed=seed, folder=tmp_path, seconds=PIECE_S, overlap=3, rate=RATE, task_rate=TASK_RATE, commands=COMMANDS
    )

    outcome = await run_plan(plan)

    assert outcome.timelines == []
    assert outcome.history.accepted()
    assert sum(fault.reached for fault in outcome.history.faults) >= 10
    assert all(kind in ALL and reason for kind, reason in outcome.obstacles.items())
