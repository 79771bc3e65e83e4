"""Elections under load: every accepted job exists and has one outcome that both services agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replica_set.system import running

pytestmark = [pytest.mark.own_stack]


async def test_step_downs_lose_nothing(tmp_path: Path) -> None:
    """Of either database, one after the other."""
    async with running(tmp_path) as system:
        await system.under_load(
            lambda: system.elect(system.api, system.api.step_down),
            lambda: system.elect(system.job, system.job.step_down),
        )

        assert await system.violations() == []
        assert system.accepted > 0
        assert system.api.rolled_back > 0
        assert system.job.rolled_back > 0


async def test_audit_objects_when_writes_wait_for_one_member(tmp_path: Path) -> None:
    """Jobs that were accepted are gone, and jobs are terminal in one database with no outcome in the other."""
    async with running(tmp_path, options="&w=1") as system:
        await system.under_load(
            lambda: system.elect(system.api, system.api.step_down, accepted=10),
            lambda: system.elect(system.job, system.job.step_down, accepted=10),
        )

        found = [str(violation) for violation in await system.violations()]

        assert [line for line in found if "was answered 201 and does not exist" in line]
        assert [line for line in found if "recorded no outcome" in line]
