"""An election between members whose clocks are half a minute apart opens no cooldown and loses no dispatch."""

from __future__ import annotations

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
"""The new primary's clock is ahead by more than this."""


async def test_election_opens_no_cooldown(tmp_path: Path) -> None:
    """Not at the api-server that was there before, and not at one that started after it."""
    async with running(tmp_path, {"HASTY_COOLDOWN_S": str(COOLDOWN_S)}) as system, Hasty.at(system.stack.url) as caller:
        object_id = new_object_id()
        job_id = await caller.create(object_id)

        await system.api.step_down()
        await eventually(lambda: _shared_clocks(system), within_s=15)

        refused = await caller.ask(object_id)
        assert (refused.status_code, refused.headers.get("Location")) == (400, f"/{job_id}")
        await system.stack.scale(API_SERVER, 2)
        address = system.stack.children["api-server-2"].address
        async with Hasty.at(f"http://{address}") as newer:
            refused = await newer.ask(object_id)
        assert (refused.status_code, refused.headers.get("Location")) == (400, f"/{job_id}")
        await caller.finished([job_id, *await caller.create_many(5)], within_s=20)


async def _shared_clocks(system: System) -> list[dict[str, Any]]:
    """What the api-server has stored once it has read the new primary's clock."""
    assert system.api.primary is not None
    async with client(system.api.primary.database.address) as api:
        return await api.hasty_api.clocks.find().to_list()
