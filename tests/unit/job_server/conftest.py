"""A job-server for each test."""

import pytest

from tests.unit.job_server.world import Worker, World


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def worker(world: World) -> Worker:
    """A job-server in it."""
    return world.worker()
