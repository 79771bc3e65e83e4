"""Every crash point once: the process dies there, and no invariant is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos_run import run_plan
from tests.chaos.faults.crashes import POINTS
from tests.chaos.plan import Plan

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

RATE = 30


async def test_every_crash_point_once(tmp_path: Path) -> None:
    """Each point is reached, the process dies there, and nothing is lost or doubled."""
    kinds = tuple(f"crash {point}" for point in POINTS)

    outcome = await run_plan(
        Plan(seed=5, folder=tmp_path, kinds=kinds, overlap=2, rate=RATE, job_servers=2, disks=False)
    )

    assert outcome.timelines == []
    assert sorted(fault.kind for fault in outcome.history.faults if fault.reached) == sorted(kinds)
