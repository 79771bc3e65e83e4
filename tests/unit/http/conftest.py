"""The services run on uvloop, whose transports differ from asyncio's in what they forgive: so do these tests."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test of this folder on the loop of the services."""
    return {"uvloop": uvloop.new_event_loop}
