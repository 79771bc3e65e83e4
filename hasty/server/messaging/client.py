"""nats-py's client, with a shorter path for what arrives and leaves in great numbers.

The only use of nats-py's inner names; they are those of 2.16, and `tests/wire` checks them against a real server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio import client
from nats.aio.subscription import Subscription

FAILURES: Final = (TimeoutError, nats.errors.Error, OSError, RuntimeError)
"""What a call raises while the broker cannot be reached.

RuntimeError is uvloop's: the transport is closed, and the client has not noticed yet.
"""

Direct = Callable[[str, str, bytes, "bytes | None"], None]
"""Gets a message's subject, reply subject, data and raw headers, if any; must not raise."""


class Client(client.Client):
    """A client with direct subscriptions and raw writes; connecting and reconnecting stay nats-py's own.

    A message for a direct subscription is passed on as it is: no parsing of headers that are not used, no queue, no
    task. `write` sends protocol lines that were put together by their caller.
    """

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Direct] = {}

    async def subscribe_direct(self, subject: str, receive: Direct) -> Subscription:
        """Subscribe, and have each message passed to `receive` as soon as it is read."""
        subscription = await self.subscribe(subject)
        self._direct[subscription._id] = receive  # noqa: SLF001 - the id that `_process_msg` gets
        return subscription

    async def unsubscribe_direct(self, subscription: Subscription) -> None:
        """End a direct subscription; what still arrives for it is dropped."""
        self._direct.pop(subscription._id, None)  # noqa: SLF001 - as in `subscribe_direct`
        await subscription.unsubscribe()

    async def write(self, lines: bytes) -> None:
        """Send complete protocol messages; raises what `publish` raises."""
        if not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        await self._send_command(lines)
        # As `publish` does: the flusher is woken once, for all that is written before it runs.
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        receive = self._direct.get(sid)
        if receive is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            receive(subject.decode(), reply.decode(), data, headers)

    async def _attempt_reconnect(self) -> None:
        # One that is replaced by another sets the future of that one, which then fails when it is to set it itself.
        with contextlib.suppress(asyncio.InvalidStateError):
            await super()._attempt_reconnect()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # The caller that waited for this answer has timed out. nats-py would set the result all the same, and its
            # reader would die of that while the client believes to be connected.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
