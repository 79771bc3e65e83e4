"""Whether a child answers, asked in its own protocol. A probe's answer is None, or the reason why not."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Probe = Callable[[], Awaitable[str | None]]

PATIENCE_S = 2.0
OP_MSG = 2013
# {"hello": 1, "$db": "admin"} in BSON: an int32 and a string.
HELLO = b"\x10hello\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00"
BSON_OK = (b"\x01ok\x00" + struct.pack("<d", 1.0), b"\x10ok\x00" + struct.pack("<i", 1))


async def nats(port: int, monitor_port: int) -> str | None:
    """A NATS server greets, answers PING, and says that its JetStream is healthy."""
    try:
        async with _connection(port) as (reader, writer):
            greeting = await reader.readline()
            if not greeting.startswith(b"INFO "):
                return f"greets with {greeting[:40]!r}, not with INFO"
            writer.write(b'CONNECT {"verbose":false,"name":"probe"}\r\nPING\r\n')
            answer = await reader.readline()
            if answer != b"PONG\r\n":
                return f"answers PING with {answer[:40]!r}"
    except (OSError, TimeoutError) as error:
        return _reason(error)
    return await http(monitor_port, "/healthz")


async def mongo(port: int) -> str | None:
    """A MongoDB-compatible server answers `hello` with ok."""
    document = struct.pack("<i", len(HELLO) + 5) + HELLO + b"\x00"
    message = struct.pack("<i", 0) + b"\x00" + document
    try:
        async with _connection(port) as (reader, writer):
            writer.write(struct.pack("<iiii", 16 + len(message), 1, 0, OP_MSG) + message)
            length, _, _, code = struct.unpack("<iiii", await reader.readexactly(16))
            answer = await reader.readexactly(length - 16)
    except (OSError, TimeoutError, EOFError) as error:
        return _reason(error)
    if code == OP_MSG and any(ok in answer for ok in BSON_OK):
        return None
    return "does not answer hello with ok"


async def http(port: int, path: str, expected: bytes | None = None) -> str | None:
    """An HTTP server answers `path` with 200, and with `expected` as the body when that is given."""
    try:
        status, body = await get(port, path)
    except (OSError, TimeoutError, EOFError, ValueError) as error:
        return _reason(error)
    if status != 200:  # noqa: PLR2004 - HTTP's own number
        return f"answers {path} with {status}: {body.decode(errors='replace').strip()[:200]}"
    if expected not in (None, body):
        return f"answers {path} with {body[:40]!r}"
    return None


async def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of one GET on a connection of its own."""
    async with _connection(port) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    _, status, *_ = head.split(b" ", 2)
    return int(status), body


@asynccontextmanager
async def _connection(port: int) -> "AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]":
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "does not listen yet"
    return f"gives no answer ({str(error) or type(error).__name__})"
