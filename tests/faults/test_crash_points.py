"""Every crash point once: the process dies there, and no law is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.hunt import Plan, hunt
from tests.faults.kinds.crashes import POINTS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

RATE = 30


async def test_every_crash_point_once(tmp_path: Path) -> None:
    """Each point is reached, the process dies there, and nothing is lost or doubled."""
    kinds = tuple(f"crash {point}" for point in POINTS)

    outcome = await hunt(Plan(seed=5, folder=tmp_path, kinds=kinds, overlap=2, rate=RATE, job_servers=2, disks=False))

    assert outcome.stories == []
    assert sorted(fault.kind for fault in outcome.history.faults if fault.reached) == sorted(kinds)
