"""Stores messages that cannot be processed: they can be read, are counted, and block no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from prometheus_client import Counter

from hasty.jobs import DeadLetter
from hasty.server.messaging.delivery import Delivery
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

DATA_MAX: Final = 64 * 1024
"""Bytes of a message that are kept."""

DEAD_LETTERS: Final = Counter("hasty_dead_letters_total", "Messages that could not be processed", ["reason"])


class _Terminates(Protocol):
    async def term(self, deliveries: Sequence[Delivery]) -> None: ...


class DeadLetters:
    """Stores dead letters by `store`, and only then has the broker end their deliveries."""

    def __init__(self, store: Callable[[Sequence[DeadLetter]], Awaitable[None]], broker: _Terminates) -> None:
        self._store = store
        self._broker = broker

    async def put(self, letters: Sequence[tuple[Delivery, str]], kind: str) -> None:
        """Store messages with the reason of each; `kind` is how they are counted.

        Raises:
            StoreUnavailable: when the database fails; the messages are delivered again then.
        """
        if not letters:
            return
        await self._store(
            [DeadLetter(message.key, message.subject, message.data[:DATA_MAX], reason) for message, reason in letters]
        )
        for message, reason in letters:
            DEAD_LETTERS.labels(kind).inc()
            log.warning("dead_letter", subject=message.subject, sequence=message.stream_sequence, reason=reason)
        await self._broker.term([message for message, _ in letters])

    async def put_defect(self, message: Delivery, reason: str) -> None:
        """Store a message that could not be processed for an unexpected reason.

        Raises:
            StoreUnavailable: as `put`.
        """
        await self.put([(message, reason)], "defect")
