"""Ends the process when its connection to the broker cannot recover by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import FatalExit

log = get_logger(__name__)

EXIT_CODE: Final = 70


async def watch(connection: Connection, silence_s: float) -> None:
    """Watch a connection for ever.

    The process exits when the client is closed, or when for `silence_s` seconds nothing came over the connection
    although the broker accepts others. A broker that is away or frozen is no reason to exit: HTTP goes on, and so does
    the waiting.

    Raises:
        FatalExit: with exit code 70.
    """
    silent_for = 0.0
    step = min(2.0, silence_s / 4)
    while True:
        try:
            async with asyncio.timeout(step):
                await connection.closed.wait()
            raise FatalExit(EXIT_CODE, f"the NATS client was closed: {connection.last_error}")
        except TimeoutError:
            pass
        try:
            await connection.ping(step)
            silent_for = 0.0
            continue
        except BrokerUnavailable:
            silent_for += step
        if silent_for >= silence_s:
            if await _accepts_connections(connection.servers):
                raise FatalExit(
                    EXIT_CODE,
                    f"the connection to NATS at {connection.where} was silent for {silent_for:.0f} s although the"
                    " broker answers others",
                )
            log.warning(
                "broker_unreachable", where=connection.where, for_s=round(silent_for), reason=connection.last_error
            )
            silent_for = 0.0


async def _accepts_connections(servers: Sequence[str]) -> bool:
    """Whether one of the servers sends its greeting to a new connection."""
    for server in servers:
        address = urlsplit(server)
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
                try:
                    if (await reader.readline()).startswith(b"INFO "):
                        return True
                finally:
                    writer.close()
        except (TimeoutError, OSError):
            continue
    return False
