"""An election between members whose clocks are half a minute apart changes no cooldown and loses no dispatch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hasty.server.local_stack.config import API_SERVER
from tests.e2e.client import Hasty, new_object_id
from tests.eventually import eventually
from tests.replica_set.copying import client
from tests.replica_set.replica_set import CLOCKS_APART
from tests.replica_set.system import System, running

pytestmark = [pytest.mark.own_stack]

COOLDOWN_S = CLOCKS_APART.total_seconds() - 2
"""The new primary's clock differs by more than this."""


@pytest.mark.parametrize("apart", [CLOCKS_APART, -CLOCKS_APART], ids=["forwards", "backwards"])
async def test_election_changes_no_cooldown(apart: timedelta, tmp_path: Path) -> None:
    """Not at the api-server that was there before, and not at one that started after it.

    With the new primary's time as it is, a clock that is ahead would end it, and one that is behind would let it begin
    again.
    """
    environment = {"HASTY_COOLDOWN_S": str(COOLDOWN_S)}
    async with running(tmp_path, environment, apart=apart) as system, Hasty.at(system.stack.url) as caller:
        object_id = new_object_id()
        job_id = await caller.create(object_id)

        await system.api.step_down()
        await eventually(lambda: _shared_clocks(system), within_s=15)

        await _keeps_cooldown(caller, object_id, job_id)
        await system.stack.scale(API_SERVER, 2)
        address = system.stack.children["api-server-2"].address
        async with Hasty.at(f"http://{address}") as newer:
            await _keeps_cooldown(newer, object_id, job_id)
        await caller.finished([job_id, *await caller.create_many(5)], within_s=20)


async def _keeps_cooldown(caller: Hasty, object_id: str, job_id: str) -> None:
    """Its job is named, and the wait gets shorter: a creation that lies ahead would count as one of just now."""

    async def wait_is_shorter() -> bool:
        refused = await caller.ask(object_id)
        assert (refused.status_code, refused.headers.get("Location")) == (400, f"/{job_id}")
        return int(refused.headers["Retry-After"]) < COOLDOWN_S

    await eventually(wait_is_shorter, within_s=8, every_s=0.3)


async def _shared_clocks(system: System) -> list[dict[str, Any]]:
    """What the api-server has stored once it has read the new primary's clock."""
    assert system.api.primary is not None
    async with client(system.api.primary.database.address) as api:
        return await api.hasty_api.clocks.find().to_list()
