"""Whether a child answers, asked in its own protocol. A probe's answer is None, or the reason why not."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from hasty.server.database_users import Login
from hasty.server.mongo import Mongo, StoreRefused, StoreUnavailable

Probe = Callable[[], Awaitable[str | None]]

PROBE_TIMEOUT_S = 2.0
HTTP_OK = 200
OP_MSG = 2013
# {"hello": 1, "$db": "admin"} in BSON: an int32 and a string.
HELLO = b"\x10hello\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00"
BSON_OK = (b"\x01ok\x00" + struct.pack("<d", 1.0), b"\x10ok\x00" + struct.pack("<i", 1))


async def nats(port: int, system: Login) -> str | None:
    """A NATS server greets, answers PING, and says that its JetStream is healthy."""
    try:
        health = await _nats_health(port, system)
    except (OSError, TimeoutError, EOFError, ValueError) as error:
        return _reason(error)
    if health.get("status") == "ok":
        return None
    return f"says {health.get('status')}: {health.get('error')}"[:300]


async def nats_refusal(port: int, system: Login) -> str | None:
    """Why a NATS server stores nothing any more: it keeps the first write error until it is restarted."""
    try:
        reason = str((await _nats_health(port, system)).get("error"))
    except (OSError, TimeoutError, EOFError, ValueError):
        return None
    return reason[:300] if "write error" in reason else None


async def _nats_health(port: int, system: Login) -> dict[str, Any]:
    """What the server says about itself to a user of its system account; ValueError when that cannot be read."""
    async with _connection(port) as (reader, writer):
        greeting = await reader.readline()
        if not greeting.startswith(b"INFO "):
            raise ValueError(f"greets with {greeting[:40]!r}, not with INFO")
        login = {"verbose": False, "name": "probe", "user": system.user, "pass": system.password}
        writer.write(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
        answer = await reader.readline()
        if answer != b"PONG\r\n":
            raise ValueError(f"answers PING with {answer[:40]!r}")
        writer.write(b"SUB probe 1\r\nPUB $SYS.REQ.SERVER.PING.HEALTHZ probe 0\r\n\r\n")
        head = await reader.readline()
        if not head.startswith(b"MSG probe 1 "):
            raise ValueError(f"answers a question about its health with {head[:40]!r}")
        health = json.loads(await reader.readexactly(int(head.split()[-1]))).get("data", {})
    if not isinstance(health, dict):
        raise ValueError(f"says of its health: {health!r}")  # noqa: TRY004 - as with all that cannot be read
    return health


@asynccontextmanager
async def mongo_refusal(url: str) -> AsyncIterator[Probe]:
    """A probe of why a database stores nothing, by a small write; one that does not answer refuses nothing."""
    async with Mongo.opened(url, name="hasty", indexes={}, timeout_s=PROBE_TIMEOUT_S) as database:

        async def refusal() -> str | None:
            try:
                await database.prove_writes(max_age_s=0)
            except StoreRefused as error:
                return str(error)[:300]
            except StoreUnavailable:
                return None
            return None

        yield refusal


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
    if status != HTTP_OK:
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
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "does not listen yet"
    return f"gives no answer ({str(error) or type(error).__name__})"
