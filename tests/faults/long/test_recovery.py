"""With default settings, apart from HASTY_ACK_WAIT_S=5, work goes on within seconds of a fault or its healing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.recovery import MEASURES, MeasuredStack, measured_stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("recovery"), pytest.mark.own_stack]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def measured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MeasuredStack]:
    """The stack that all of these are measured on."""
    async with measured_stack(tmp_path_factory.mktemp("recovery")) as measured:
        yield measured


@pytest.mark.parametrize("name", MEASURES)
async def test_recovers_in_time(name: str, measured: MeasuredStack) -> None:
    """As docs/faults.md promises."""
    measure, within_s = MEASURES[name]

    assert await measure(measured) <= within_s
