"""A real HTTP server over a scripted service, with the shortcut and without, and raw connections to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx

from api_server.domain import TooSoon
from api_server.errors import TooSoonError
from api_server.http.app import make_app
from api_server.http.contract import Contract
from api_server.http.problems import unreadable
from hasty.jobs import Job
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.answer import Answer, Respond
from hasty.server.runtime.batching import Overloaded
from hasty.server.runtime.http import HttpServer
from hasty.server.runtime.probes import Probes
from tests.unit.api_server.v1_world import World

KNOWN = "11111111-1111-4111-8111-111111111111"
UNKNOWN = "22222222-2222-4222-8222-222222222222"


class Scripted:
    """A service that does what an object's id says, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.callers: list[str] = []
        self.open: list[asyncio.Future[str]] = []

    def submit(self, object_id: str, caller: str) -> asyncio.Future[str]:
        """Make a job, or fail as asked."""
        self.asked += 1
        self.callers.append(caller)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        match object_id:
            case "too soon":
                future.set_exception(TooSoonError(TooSoon(KNOWN, 12.3)))
            case "away":
                future.set_exception(StoreUnavailable("no"))
            case "busy":
                raise Overloaded("10000 are waiting")
            case "defect":
                future.set_exception(KeyError(object_id))
            case "defect at once":
                raise KeyError(object_id)
            case "later":
                self.open.append(future)
            case _:
                future.set_result(KNOWN)
        return future

    def find(self, job_id: str, caller: str) -> asyncio.Future[Job | None]:
        """Know one job."""
        self.asked += 1
        self.callers.append(caller)
        future: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        future.set_result(Job(KNOWN, "x", 1, datetime(2026, 1, 2, tzinfo=UTC)) if job_id == KNOWN else None)
        return future


class Counting(Contract):
    """A contract that counts what came the short way."""

    def __init__(self, service: Scripted) -> None:
        super().__init__(service, service)
        self.short = 0

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Have what is answered counted."""
        respond = super().route(method, target)

        def counting(body: bytes, caller: str) -> asyncio.Future[Answer]:
            assert respond is not None
            self.short += 1
            return respond(body, caller)

        return None if respond is None else counting


class Served:
    """A running server over a scripted service."""

    def __init__(self, *, shortcut: bool, drain_s: float = 1, grace_s: float = 2) -> None:
        self.service = Scripted()
        self._drain_s = drain_s
        self._grace_s = grace_s
        self.contract = Counting(self.service)
        self._shortcut = self.contract if shortcut else None
        self.port = 0
        self.server: HttpServer

    @contextlib.asynccontextmanager
    async def running(self) -> "AsyncIterator[Served]":
        """Serve on a port of its own."""
        app = make_app(self.contract, Probes({}), World().v1().v1)
        async with HttpServer.running(
            app,
            host="127.0.0.1",
            port=0,
            drain_s=self._drain_s,
            grace_s=self._grace_s,
            shortcut=self._shortcut,
            refuse=unreadable,
        ) as self.server:
            self.port = self.server.port
            yield self

    def caller(self) -> httpx.AsyncClient:
        """A caller with connections of its own."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}")

    @property
    def state(self) -> Any:
        """What uvicorn knows of its connections, tasks and requests."""
        return self.server._server.server_state  # noqa: SLF001 - nothing else tells

    @property
    def connections(self) -> list[Any]:
        """The connections that are open."""
        return list(self.state.connections)

    def has_read(self, body: bytes) -> bool:
        """Whether this much was read of the body of the only connection's request, and no more."""
        return [connection.cycle.body for connection in self.connections if connection.cycle is not None] == [body]

    async def refuses(self) -> bool:
        """Whether new connections are refused."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    async def spoken(self, raw: bytes, *, answers: int = 1) -> bytes:
        """Send bytes on a connection, and read so many answers, whose bodies have no line of their own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        heard = b""
        async with asyncio.timeout(5):
            while heard.count(b'{"message":') < answers and (piece := await reader.read(65536)):
                heard += piece
        writer.close()
        return heard


@contextlib.asynccontextmanager
async def both_ways() -> AsyncIterator[tuple[Served, Served]]:
    """Serve the same with the shortcut and without."""
    async with Served(shortcut=True).running() as short, Served(shortcut=False).running() as long:
        yield short, long


def request(head: str, body: bytes = b"") -> bytes:
    """Write a request as it travels."""
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


X = b'{"object_id": "x"}'
POST = request(f"POST / HTTP/1.1\nhost: h\ncontent-length: {len(X)}", X)
LATER = b'{"object_id": "later"}'
POST_LATER = request(f"POST / HTTP/1.1\nhost: h\ncontent-length: {len(LATER)}", LATER)
GET = request(f"GET /{KNOWN} HTTP/1.1\nhost: h")


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close with an RST: nothing may be sent any more."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()
