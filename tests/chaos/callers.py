"""Callers over HTTP/1.1, as cheap as asyncio's streams: what a run spends on its own load, the system does not have."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

_IDLE_MOST: Final = 40


class NoAnswer(Exception):
    """The connection could not be made, broke, or gave no answer in time; whether the request was read is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    code: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)


@dataclass
class Callers:
    """Any number of callers of one address, which share its idle connections."""

    host: str
    port: int
    connect_within_s: float
    answer_within_s: float
    _idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)

    async def get(self, path: str) -> Answer:
        """Ask for something."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())

    async def post(self, path: str, content: object, key: str = "") -> Answer:
        """Send JSON, with an idempotency key if one is given."""
        body = json.dumps(content).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        return await self._ask(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def close(self) -> None:
        """End the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _ask(self, request: bytes) -> Answer:
        """Send once, and never again: a request that is repeated would hide what became of the first.

        Raises:
            NoAnswer: when none came.
        """
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._connection()
            async with asyncio.timeout(self.answer_within_s):
                writer.write(request)
                answer = await _read(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            if writer is not None:
                writer.close()
            raise NoAnswer(type(error).__name__) from error
        if answer.headers.get("connection", "").lower() == "close" or len(self._idle) >= _IDLE_MOST:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and reader.exception() is None and not writer.is_closing():
                return reader, writer
            writer.close()
        async with asyncio.timeout(self.connect_within_s):
            return await asyncio.open_connection(self.host, self.port)


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    code = int(head[0].split(" ", 2)[1])
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(code, headers, await _chunks(reader))
    return Answer(code, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body
