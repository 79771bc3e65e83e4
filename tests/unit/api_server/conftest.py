"""What the tests of the api-server's parts share."""

import pytest

from tests.unit.api_server.world import ApiServer, World


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def api_server(world: World) -> ApiServer:
    """An api-server in it."""
    return world.api_server()
