"""Two minutes of faults of all kinds, in two seeded orders: no law is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.hunt import Plan, hunt
from tests.faults.kinds import ALL
from tests.faults.report import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

PIECE_S = 60
RATE = 30


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_minute_of_faults(seed: int, tmp_path: Path) -> None:
    """All kinds, three side by side; a kind this machine cannot do is named with its reason, on any machine."""
    outcome = await hunt(Plan(seed=seed, folder=tmp_path, seconds=PIECE_S, overlap=3, rate=RATE, commands=COMMANDS))

    assert outcome.stories == []
    assert outcome.history.accepted()
    assert sum(fault.reached for fault in outcome.history.faults) >= 10
    assert all(kind in ALL and reason for kind, reason in outcome.obstacles.items())
