"""Databases that are replica sets: their primaries are killed or step down, again and again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replica_set.system import running

pytestmark = [pytest.mark.own_stack]

TIMES = 3


@pytest.mark.parametrize("election", ["step_down", "crash"])
@pytest.mark.parametrize("service", ["api", "job"])
async def test_elections_lose_nothing(service: str, election: str, tmp_path: Path) -> None:
    """There and back, and there again: every accepted job exists and has one outcome."""
    async with running(tmp_path) as system:
        members = getattr(system, service)
        await system.under_load(*[lambda: system.elect(members, getattr(members, election))] * TIMES)

        assert await system.violations() == []
        assert system.accepted > 0
        assert members.rolled_back > 0


@pytest.mark.parametrize(
    ("service", "objection"),
    [("api", "was answered 201 and does not exist"), ("job", "recorded no outcome")],
)
async def test_audit_objects_after_a_crash_with_w1(service: str, objection: str, tmp_path: Path) -> None:
    """What the killed primary alone had is missed."""
    async with running(tmp_path, options="&w=1") as system:
        members = getattr(system, service)
        await system.under_load(lambda: system.elect(members, members.crash, accepted=10))

        found = [str(violation) for violation in await system.violations()]
        assert [line for line in found if objection in line]
