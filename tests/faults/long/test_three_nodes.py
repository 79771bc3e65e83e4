"""Faults of a three-node NATS cluster under load: every accepted job has exactly one outcome, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.three_nodes import FAULTS, ThreeNodes

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("three nodes"), pytest.mark.own_stack]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ThreeNodes]:
    """One cluster and one stack for all of these."""
    async with ThreeNodes.running(tmp_path_factory.mktemp("three-nodes")) as system:
        yield system


@pytest.mark.parametrize("name", FAULTS)
async def test_no_job_is_lost_or_done_twice(name: str, system: ThreeNodes) -> None:
    """Whatever happens to the cluster; the stack takes new jobs meanwhile."""
    accepted_before = len(system.history.accepted())

    await system.pause_of(FAULTS[name])

    assert len(system.history.accepted()) > accepted_before
    assert await system.violations() == []
