"""The acknowledgement ladder: done, not now, never again, still busy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from hasty.server.messaging.connection import CALL_TIMEOUT_S, BrokerUnavailable, Connection
from hasty.server.messaging.delivery import Delivery
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

_NS: Final = 1_000_000_000


class Acks:
    """Answers deliveries over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ack(self, deliveries: Sequence[Delivery]) -> bool:
        """Acknowledge finished work; True when the broker has confirmed it.

        A consumer takes its acknowledgements in order, so the confirmation of the last one covers all.
        """
        if not deliveries:
            return True
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if len(deliveries) > 1:
                    await self._connection.write(_publications(deliveries[:-1], b"+ACK"))
                await self._connection.request(deliveries[-1].reply, b"+ACK")
        except (BrokerUnavailable, TimeoutError) as error:
            log.debug("ack_unknown", count=len(deliveries), reason=str(error))
            return False
        return True

    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None:
        """Hand messages back, to be delivered again after `delay_s` seconds."""
        body = b"-NAK" if delay_s <= 0 else b'-NAK {"delay": %d}' % int(delay_s * _NS)
        await self._answer(deliveries, body)

    async def term(self, deliveries: Sequence[Delivery]) -> None:
        """Never have these messages delivered again."""
        await self._answer(deliveries, b"+TERM")

    async def in_progress(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are still being worked on, which restarts their acknowledgement wait."""
        await self._answer(deliveries, b"+WPI")

    async def _answer(self, deliveries: Sequence[Delivery], body: bytes) -> None:
        if not deliveries:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._connection.write(_publications(deliveries, body))
        except (BrokerUnavailable, TimeoutError) as error:
            # Then the broker delivers them again after the acknowledgement wait.
            log.debug("answer_not_sent", answer=body[:5].decode(), count=len(deliveries), reason=str(error))


def _publications(deliveries: Sequence[Delivery], body: bytes) -> bytes:
    """The same short answer to many deliveries, as protocol lines."""
    tail = b" %d\r\n%b\r\n" % (len(body), body)
    return b"".join([b"PUB %b%b" % (delivery.reply.encode(), tail) for delivery in deliveries])
