"""Publishes messages to the stream, together where the broker takes atomic batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hasty.server.messaging.connection import CALL_TIMEOUT_S, BrokerUnavailable, Connection
from hasty.server.messaging.events import WORK_PREFIX, Outgoing
from hasty.server.runtime.crash_points import CrashPoint, crash_point
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

ATOMIC_BATCH_MAX: Final = 500
"""Messages in one atomic batch; the broker takes up to 1,000."""

ATOMIC_BATCH_MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes in one atomic batch, which the broker holds in memory until it is complete."""

SINGLES_AT_ONCE: Final = 256
ATOMIC_OFF_S: Final = 60
"""So long messages are published singly after the broker refused a batch because it takes none."""

FAILURE_COUNTS_S: Final = 10.0
"""For so long a publish that failed says that the broker does not store; what matters is published again by then."""

_ERR_DUPLICATE_IN_BATCH: Final = 10201
_ERR_ID_IN_PROCESS: Final = 10158
_ERR_INCOMPLETE_BATCH: Final = 10176
_ERR_TOO_MANY_BATCHES: Final = 10210
_ERRS_THAT_PASS: Final = {_ERR_ID_IN_PROCESS, _ERR_INCOMPLETE_BATCH, _ERR_TOO_MANY_BATCHES}
"""A replicated stream does not know yet what becomes of a message with this id; its leader changed within a batch;
others have too many batches open."""

_UNAVAILABLE: Final = 503
_FIRST_WITH_ATOMIC_BATCHES: Final = (2, 12)


class Publisher:
    """Publishes over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._singles = asyncio.Semaphore(SINGLES_AT_ONCE)
        self._batches = 0
        self._atomic_refused_until = 0.0
        self._failing_since: float | None = None
        self._failed_at = float("-inf")

    @property
    def connected(self) -> bool:
        """Whether it makes sense to try."""
        return self._connection.connected

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        """Publish messages, together where possible; True for each that the stream holds for certain.

        A False means unknown: it may be there. A message whose id the stream knows already counts as held.
        """
        # A batch is of one stream.
        work = [n for n, message in enumerate(messages) if message.subject.startswith(WORK_PREFIX)]
        if work and len(work) < len(messages):
            others = sorted(set(range(len(messages))).difference(work))
            held = [
                *await self.publish([messages[n] for n in work]),
                *await self.publish([messages[n] for n in others]),
            ]
            return [result for _, result in sorted(zip((*work, *others), held, strict=True))]
        results: list[bool] = []
        for chunk in _chunks(messages):
            results += await self._publish_chunk(chunk)
        if results:
            self._note(stored=any(results))
        return results

    async def prove_stores(self) -> None:
        """Prove that the broker answers, and that it stores what is published, as far as that was tried lately.

        Raises:
            BrokerUnavailable: when it does not.
        """
        await self._connection.ping()
        now = asyncio.get_running_loop().time()
        if self._failing_since is not None and now - self._failed_at < FAILURE_COUNTS_S:
            raise BrokerUnavailable(
                f"NATS at {self._connection.where} answers, but has stored no message for"
                f" {now - self._failing_since:.0f} s: is its disk full?"
            )

    def _note(self, *, stored: bool) -> None:
        if stored:
            self._failing_since = None
            return
        self._failed_at = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = self._failed_at

    async def _publish_chunk(self, chunk: Sequence[Outgoing]) -> list[bool]:
        if len(chunk) == 1 or not self._takes_atomic_batches():
            return await self._publish_singly(chunk)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                error = await self._publish_atomically(chunk)
        except (BrokerUnavailable, TimeoutError):
            return [False] * len(chunk)
        if error is None:
            return [True] * len(chunk)
        # A refused batch stored nothing.
        if _passes(error):
            log.info("atomic_batch_not_stored", reason=error.get("description"), code=error.get("err_code"))
            return [False] * len(chunk)
        # One known id refuses the whole, so the others go singly.
        if error.get("err_code") != _ERR_DUPLICATE_IN_BATCH:
            log.warning("atomic_batch_refused", reason=error.get("description"), code=error.get("err_code"))
            self._atomic_refused_until = asyncio.get_running_loop().time() + ATOMIC_OFF_S
        return await self._publish_singly(chunk)

    def _takes_atomic_batches(self) -> bool:
        if asyncio.get_running_loop().time() < self._atomic_refused_until or not self.connected:
            return False
        version = self._connection.client.connected_server_version
        return (version.major, version.minor) >= _FIRST_WITH_ATOMIC_BATCHES

    async def _publish_atomically(self, chunk: Sequence[Outgoing]) -> dict[str, Any] | None:
        """Publish a batch that is stored as a whole or not at all; the broker's error, or None."""
        self._batches += 1
        batch = b"%s-%x-%d" % (self._connection.name.encode().replace(b" ", b"-"), id(self), self._batches)
        batch += b"-%d" % self._connection.client.client_id if self._connection.client.client_id else b""
        *others, last = chunk
        await self._connection.write(_batch_lines(batch, others))
        crash_point(CrashPoint.PUBLISH_MID_BATCH)
        headers = {
            "Nats-Batch-Id": batch.decode(),
            "Nats-Batch-Sequence": str(len(chunk)),
            "Nats-Batch-Commit": "1",
        }
        if last.message_id is not None:
            headers["Nats-Msg-Id"] = last.message_id
        answer = json.loads(await self._connection.request(last.subject, last.body, headers))
        error: dict[str, Any] | None = answer.get("error")
        return error

    async def _publish_singly(self, chunk: Sequence[Outgoing]) -> list[bool]:
        return list(await asyncio.gather(*(self._publish_one(message) for message in chunk)))

    async def _publish_one(self, message: Outgoing) -> bool:
        headers = None if message.message_id is None else {"Nats-Msg-Id": message.message_id}
        async with self._singles:
            try:
                answer = json.loads(await self._connection.request(message.subject, message.body, headers))
            except BrokerUnavailable as error:
                log.debug("publish_unknown", subject=message.subject, reason=str(error))
                return False
        if "error" in answer:
            reason = answer["error"].get("description")
            if _passes(answer["error"]):
                log.debug("publish_unknown", subject=message.subject, reason=reason)
            else:
                log.warning("publish_refused", subject=message.subject, reason=reason)
            return False
        return True


def _passes(error: dict[str, Any]) -> bool:
    """Whether the same messages may well be taken a moment later."""
    return error.get("err_code") in _ERRS_THAT_PASS or error.get("code") == _UNAVAILABLE


def _chunks(messages: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Split messages into batches that are neither too many nor too large."""
    first, size = 0, 0
    for n, message in enumerate(messages):
        if n - first == ATOMIC_BATCH_MAX or (n > first and size + len(message.body) > ATOMIC_BATCH_MAX_BYTES):
            yield messages[first:n]
            first, size = n, 0
        size += len(message.body)
    if first < len(messages):
        yield messages[first:]


def _batch_lines(batch: bytes, messages: Sequence[Outgoing]) -> bytes:
    """All messages of a batch but the last, as protocol lines."""
    lines = bytearray()
    for number, message in enumerate(messages, start=1):
        head = b"NATS/1.0\r\nNats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n" % (batch, number)
        if message.message_id is not None:
            head += b"Nats-Msg-Id: %b\r\n" % message.message_id.encode()
        head += b"\r\n"
        lines += b"HPUB %b %d %d\r\n" % (message.subject.encode(), len(head), len(head) + len(message.body))
        lines += head + message.body + b"\r\n"
    return bytes(lines)
