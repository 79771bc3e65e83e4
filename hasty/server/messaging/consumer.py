"""Pulls messages from a durable consumer, as many as there are free slots for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from hasty.server.messaging.client import FAILURES
from hasty.server.messaging.connection import CALL_TIMEOUT_S, BrokerUnavailable, Connection, report_missing
from hasty.server.messaging.delivery import Delivery, parse
from hasty.server.messaging.topology import Durable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

PULL_EXPIRES_S: Final = 2.0
FIRST_PULL_EXPIRES_S: Final = 0.1
SILENT_PULLS: Final = 3
REFUSALS_EXPECTED: Final = 4
"""So many refused pulls in a row, some 1.5 s of them, are normal: at the first start, the consumer is being made."""

_NS: Final = 1_000_000_000

Handle = Callable[[Sequence[Delivery]], Awaitable[None]]
DeadLetterOne = Callable[[Delivery, str], Awaitable[None]]


async def consume(consumer: PullConsumer, handle: Handle, dead_letter: DeadLetterOne) -> None:
    """Hand every batch of a consumer to `handle` until it is stopped.

    A batch on which `handle` fails is tried again message by message, and what it fails on alone goes to
    `dead_letter`: an unexpected message must stop neither the others nor the process, at none of its deliveries.
    """
    async for batch in consumer.batches():
        try:
            await handle(batch)
        except Exception:
            log.exception("messages_failed", consumer=consumer.durable.name, size=len(batch))
            for delivery in batch:
                await _consume_one(consumer, delivery, handle, dead_letter)


async def _consume_one(consumer: PullConsumer, delivery: Delivery, handle: Handle, dead_letter: DeadLetterOne) -> None:
    try:
        await handle([delivery])
    except Exception as error:
        log.exception("message_failed", consumer=consumer.durable.name, sequence=delivery.stream_sequence)
        try:
            await dead_letter(delivery, f"{type(error).__name__}: {error}")
        except Exception:
            # It is delivered again after the acknowledgement wait.
            log.exception("message_not_dead_lettered", sequence=delivery.stream_sequence)


class PullConsumer:
    """Takes messages from a durable consumer, as many as there are free slots for, with one long-lived inbox.

    One pull is open at a time. It is never cancelled: a cancelled pull would swallow messages. It ends when it is
    filled or when it expires, within two seconds, and its inbox survives reconnects, so that whatever the broker
    still sends arrives. `free_slots` says how many more messages may be taken, given how many are buffered.
    """

    def __init__(self, connection: Connection, durable: Durable, *, free_slots: Callable[[int], int]) -> None:
        self.durable = durable
        self._connection = connection
        self._free_slots = free_slots
        self._buffer: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pull = 0
        self._open = 0
        self._open_until = 0.0
        self._silent = 0
        self._missing = 0
        self._last_answer = float("-inf")
        self._subscription: Any = None
        self._inbox = ""

    @property
    def buffered(self) -> int:
        """Messages that have arrived but were not taken by `batches` yet."""
        return len(self._buffer)

    @property
    def consuming(self) -> bool:
        """Whether the broker has answered a pull of this consumer lately."""
        return asyncio.get_running_loop().time() - self._last_answer < 2 * PULL_EXPIRES_S + 1

    def wake(self) -> None:
        """Say that there may be free slots again."""
        if not self._open:
            self._wake.set()

    def stop(self) -> None:
        """Open no more pulls; `batches` ends when the open one has, within two seconds."""
        self._stopping = True
        self._wake.set()

    async def batches(self) -> AsyncIterator[list[Delivery]]:
        """Yield what has arrived, at least one message at a time, until `stop`; in the order of delivery."""
        self._connection.on_connected.append(self._reconnected)
        try:
            while True:
                if not self._open and not self._stopping:
                    await self._open_pull()
                if self._buffer:
                    batch = list(self._buffer)
                    self._buffer.clear()
                    yield batch
                    continue
                if self._stopping and not self._open:
                    return
                await self._wait()
        finally:
            self._connection.on_connected.remove(self._reconnected)
            await self._unsubscribe()

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        timeout_s = self._open_until - now if self._open else PULL_EXPIRES_S
        self._wake.clear()
        try:
            async with asyncio.timeout(max(timeout_s, 0.01)):
                await self._wake.wait()
        except TimeoutError:
            if self._open:
                await self._note_silence()

    async def _open_pull(self) -> None:
        wanted = self._free_slots(len(self._buffer))
        if wanted <= 0 or not self._connection.connected:
            return
        if self._missing and not await self._back_off():
            return
        # The first pull, and the first after a refusal, is short: it shows soon whether the consumer exists.
        # The others differ, so that of several processes not always the same one has the oldest pull, which is served.
        expires_s = PULL_EXPIRES_S * random.uniform(0.5, 1) if self.consuming else FIRST_PULL_EXPIRES_S  # noqa: S311
        try:
            await self._subscribe()
            self._pull += 1
            self._open = wanted
            self._open_until = asyncio.get_running_loop().time() + expires_s + 1
            body = b'{"batch":%d,"expires":%d}' % (wanted, int(expires_s * _NS))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._connection.client.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self.durable.stream}.{self.durable.name}",
                    body,
                    reply=f"{self._inbox}.{self._pull}",
                )
        except (BrokerUnavailable, *FAILURES) as error:
            self._open = 0
            self._missing += 1
            log.debug("pull_not_sent", consumer=self.durable.name, reason=str(error))

    async def _back_off(self) -> bool:
        """Wait after refused pulls, longer each time, to save CPU; False when stopped meanwhile."""
        pause = min(0.05 * 2 ** min(self._missing, 10), 1.0)
        self._wake.clear()
        try:
            async with asyncio.timeout(pause):
                while not self._stopping and not self._buffer:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass
        return not self._stopping and not self._buffer

    async def _note_silence(self) -> None:
        """A pull always ends with an answer, unless something between here and the consumer is broken."""
        self._open = 0
        self._silent += 1
        if self._silent >= SILENT_PULLS and self._connection.connected:
            log.warning("consumer_silent", consumer=self.durable.name, pulls=self._silent)
            self._silent = 0
            await self._unsubscribe()

    async def _subscribe(self) -> None:
        if self._subscription is None:
            client = self._connection.client
            self._inbox = client.new_inbox()
            async with asyncio.timeout(CALL_TIMEOUT_S):
                self._subscription = await client.subscribe_direct(f"{self._inbox}.*", self._on_message)

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(1):
                    await self._connection.client.unsubscribe_direct(subscription)

    def _reconnected(self) -> None:
        # The broker has forgotten the pull with the connection; its messages, if any, still arrive.
        self._open = 0
        self._missing = 0
        self._wake.set()

    def _on_message(self, subject: str, reply: str, data: bytes, headers: bytes | None) -> None:
        """Never raises: see `Connection`."""
        self._last_answer = asyncio.get_running_loop().time()
        self._silent = 0
        if reply.startswith("$JS.ACK."):
            self._missing = 0
            self._open = max(self._open - 1, 0)
            self._buffer.append(parse(subject, reply, data, headers))
            self._wake.set()
        elif subject == f"{self._inbox}.{self._pull}":
            self._end_pull((headers or b"").split(b"\r\n", 1)[0].decode("utf-8", "replace"))

    def _end_pull(self, status_line: str) -> None:
        # "NATS/1.0 408 Request Timeout", as HTTP has it.
        _, _, answer = status_line.partition(" ")
        status, _, reason = answer.partition(" ")
        if status == "100":
            return
        if status in {"404", "408"}:
            self._missing = 0
        else:
            # No such consumer (503), or it was deleted or moved under the pull (409).
            self._missing += 1
            self._last_answer = float("-inf")
            report_missing(self._connection)
            if self._missing == REFUSALS_EXPECTED + 1:
                log.warning(
                    "pull_refused", consumer=self.durable.name, status=status, reason=reason or "no such consumer"
                )
        self._open = 0
        self._wake.set()
