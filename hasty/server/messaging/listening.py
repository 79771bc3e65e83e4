"""Hears what is told on core NATS, from the first connection on."""

from __future__ import annotations

import asyncio
from typing import Final

from hasty.server.messaging.connection import BrokerUnavailable, Connection, Hear

LISTEN_AGAIN_S: Final = 1.0


async def listen(connection: Connection, subject: str, hear: Hear) -> None:
    """Begin to listen, as soon as there is a connection; it survives reconnections. See `Connection.listen`."""
    while True:
        try:
            await connection.listen(subject, hear)
        except BrokerUnavailable:
            await asyncio.sleep(LISTEN_AGAIN_S)
        else:
            return
