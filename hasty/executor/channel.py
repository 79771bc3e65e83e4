"""The socket to the parent: lines of messages, both ways in batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

LINE_MAX: Final = 64 * 1024 * 1024
"""A longer line is garbage: the one who wrote it is not understood any more."""

GONE: Final = "is gone"
"""How what `closed` gets begins when the other end is gone."""

Message = list[Any]


class Garbage(ValueError):
    """A line is not a JSON list of messages."""


def decode(line: bytes) -> list[Message]:
    """Read a line.

    Raises:
        Garbage: when it is no JSON list of lists that begin with a name.
    """
    try:
        messages = _parsed(line)
    except (ValueError, RecursionError) as error:
        raise Garbage(str(error)) from None
    if not isinstance(messages, list) or not all(
        isinstance(message, list) and message and isinstance(message[0], str) for message in messages
    ):
        raise Garbage("no list of messages")
    return messages


def _parsed(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        # A lone surrogate, too many levels, or garbage.
        return json.loads(line)


def _written(messages: list[Message]) -> bytes:
    try:
        return to_json(messages)
    except PydanticSerializationError:
        # A lone surrogate, or too many levels.
        return json.dumps(messages, separators=(",", ":")).encode()


class Channel(asyncio.Protocol):
    """One end of the socket pair: calls `receive` with each message, and sends what `send` collects once per step.

    `closed` is called when the other end is gone or writes what cannot be read.
    """

    def __init__(self, receive: Callable[[Message], None], closed: Callable[[str], None]) -> None:
        self._receive = receive
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._outgoing: list[Message] = []
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # A socket's transport is one, also where another loop's is no subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on the messages of each line that is complete."""
        self._incoming += data
        while not self._over and (end := self._incoming.find(b"\n")) >= 0:
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            try:
                messages = decode(line)
            except Garbage as error:
                self._end(f"wrote what cannot be read: {error}")
                return
            for message in messages:
                self._receive(message)
        if len(self._incoming) > LINE_MAX:
            self._end("wrote a line without an end")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other end is gone."""
        self._end(GONE if exc is None else f"{GONE}: {exc}")

    def send(self, *message: Any) -> None:
        """Send a message with all others of this step of the loop; to be called in the loop's thread."""
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(list(message))

    def send_from_thread(self, *message: Any) -> None:
        """Send a message from any thread."""
        self._loop.call_soon_threadsafe(self.send, *message)

    def flush(self) -> None:
        """Write what was collected."""
        messages, self._outgoing = self._outgoing, []
        if messages and self._transport is not None and not self._over:
            self._transport.write(_written(messages) + b"\n")

    def close(self) -> None:
        """Close the socket, once what was sent is written."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def _end(self, why: str) -> None:
        if not self._over:
            self._over = True
            if self._transport is not None:
                self._transport.close()
            self._closed(why)
