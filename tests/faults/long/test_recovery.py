"""With default settings, apart from HASTY_ACK_WAIT_S=5, work goes on within seconds of a fault or its healing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.recovery import MEASURES, Patient, patient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("recovery"), pytest.mark.own_stack]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whom(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Patient]:
    """The stack that all of these are measured on."""
    async with patient(tmp_path_factory.mktemp("recovery")) as whom:
        yield whom


@pytest.mark.parametrize("name", MEASURES)
async def test_recovers_in_time(name: str, whom: Patient) -> None:
    """As docs/faults.md promises."""
    measure, within_s = MEASURES[name]

    assert await measure(whom) <= within_s
