"""A simulated replica set for all tests of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.replica_set.replica_set import ReplicaSet


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def members(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReplicaSet]:
    """Two members, either of which may be primary when a test begins."""
    async with ReplicaSet.running(tmp_path_factory.mktemp("set")) as running:
        yield running
