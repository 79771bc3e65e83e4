"""The shortcut and FastAPI answer alike: the same requests are asked both ways, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api_server.domain import Job, Run, TooSoon
from api_server.errors import Busy, StoreUnavailable, TooSoonError
from api_server.routes import Contract, make_app
from runtime.http import BODY_MAX, HttpServer
from runtime.probes import Probes
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api_server.service import Service

KNOWN = "11111111-1111-4111-8111-111111111111"
UNKNOWN = "22222222-2222-4222-8222-222222222222"


class Scripted:
    """A service that does what an object's id says, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.open: list[asyncio.Future[str]] = []

    def submit(self, object_id: str) -> asyncio.Future[str]:
        """Make a job, or fail as asked."""
        self.asked += 1
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        match object_id:
            case "too soon":
                future.set_exception(TooSoonError(TooSoon(KNOWN, 12.3)))
            case "away":
                future.set_exception(StoreUnavailable("no"))
            case "busy":
                raise Busy
            case "defect":
                future.set_exception(KeyError(object_id))
            case "defect at once":
                raise KeyError(object_id)
            case "later":
                self.open.append(future)
            case _:
                future.set_result(KNOWN)
        return future

    def find(self, job_id: str) -> asyncio.Future[Job | None]:
        """Know one job."""
        self.asked += 1
        future: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        future.set_result(Job(Run("x", 1, KNOWN, datetime(2026, 1, 2, tzinfo=UTC))) if job_id == KNOWN else None)
        return future


class Counting(Contract):
    """A contract that counts what came the short way."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.short = 0

    def answer(self, *asked: object) -> None:
        """Count, and answer."""
        self.short += 1
        super().answer(*asked)  # type: ignore[arg-type]


class Served:
    """A running server over a scripted service."""

    def __init__(self, *, shortcut: bool) -> None:
        self.service = Scripted()
        self.contract = Counting(self.service)  # type: ignore[arg-type]
        self._shortcut = self.contract if shortcut else None
        self.port = 0
        self.server: HttpServer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Served]:
        """Serve on a port of its own."""
        app = make_app(self.contract, Probes({}))
        async with HttpServer.running(
            app, host="127.0.0.1", port=0, goodbye_s=1, grace_s=1, shortcut=self._shortcut
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
        """Whether newcomers are turned away."""
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


BODIES = [
    b'{"object_id": "x"}',
    b'{"object_id": "too soon"}',
    b'{"object_id": "away"}',
    b'{"object_id": "busy"}',
    b'{"object_id": "defect at once"}',
    b"{}",
    b'{"object_id": null}',
    b'{"object_id": ""}',
    b'{"object_id": 5}',
    b'{"object_id": {"$ne": null}}',
    b'{"object_id": "\\ud800"}',
    b'{"object_id": "a\\u0000b"}',
    b'{"object_id": NaN}',
    b'{"object_id": "%b"}' % (b"x" * 257),
    b"[" * 60_000,
    b"\xff\xfe",
    b"",
    b"null",
    b'"x"',
    b"x" * BODY_MAX,
    b"x" * (BODY_MAX + 1),
]
REQUESTS = [("POST", "/", body) for body in BODIES] + [
    ("GET", f"/{KNOWN}", b""),
    ("GET", f"/{UNKNOWN}", b""),
    ("GET", f"/{UNKNOWN}", b"with a body"),
    ("GET", f"/{KNOWN.upper()}", b""),
    ("GET", f"/{KNOWN}?x=1", b""),
    ("POST", "/?x=1", b'{"object_id": "x"}'),
    ("GET", "/aaaaaaaa/bbbb-cccc-dddd-eeeeeeeeeeee", b""),
    ("GET", "/x", b""),
    ("GET", "/%00%ff", b""),
    ("GET", "/a/b", b""),
    ("GET", "/", b""),
    ("PUT", f"/{KNOWN}", b""),
    ("DELETE", "/", b""),
]


async def test_both_ways_answer_alike() -> None:
    """Status, headers and body, to the byte, and always the contract's shape."""
    async with both_ways() as (one, other), one.caller() as short_way, other.caller() as long_way:
        for method, path, body in REQUESTS:
            asked = f"{method} {path} {body[:40]!r}"
            short = await short_way.request(method, path, content=body)
            long = await long_way.request(method, path, content=body)
            assert short.status_code == long.status_code, asked
            assert short.content == long.content, asked
            assert sorted(short.headers.items()) == sorted(long.headers.items()), asked
            assert list(short.json()) == ["message"], asked
            assert short.status_code <= 500 or "retry-after" in short.headers, asked
            assert one.service.asked == other.service.asked, asked
        assert one.contract.short > len(BODIES)


async def test_ordinary_requests_take_the_shortcut() -> None:
    """Many on one connection, of both kinds; everything else goes to the framework."""
    async with Served(shortcut=True).running() as served, served.caller() as client:
        for number in range(5):
            assert (await client.post("/", json={"object_id": f"x{number}"})).status_code == 201
            assert (await client.get(f"/{KNOWN}")).status_code == 200
        assert served.contract.short == 10
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.head(f"/{KNOWN}")).status_code == 405
        assert served.contract.short == 10


async def test_a_body_without_a_length_is_read_all_the_same() -> None:
    """In chunks, as HTTP calls them."""

    async def pieces() -> AsyncIterator[bytes]:
        for letter in X:
            yield bytes([letter])

    async with both_ways() as servers:
        for served in servers:
            async with served.caller() as client:
                assert (await client.post("/", content=pieces())).status_code == 201
        assert servers[0].contract.short == 0


@pytest.mark.parametrize("size", [1, 5, 17])
async def test_a_body_in_pieces_is_one_body(size: int) -> None:
    """However the network cuts it: each piece is read before the next is sent."""
    head, body = POST[: -len(X)], POST[-len(X) :]
    async with Served(shortcut=True).running() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head)
        for end in range(size, len(body), size):
            writer.write(body[end - size : end])
            await eventually(partial(served.has_read, body[:end]), every_s=0.005)
        writer.write(body[end:])
        async with asyncio.timeout(5):
            assert b"201 Created" in await reader.readuntil(b"}}")
        writer.close()
        assert served.contract.short == 1


@pytest.mark.parametrize("object_id", ["defect", "defect at once"])
async def test_a_defect_is_a_plain_500_in_the_contracts_shape(object_id: str) -> None:
    """Nothing of the inside is shown."""
    async with both_ways() as servers:
        for served in servers:
            async with served.caller() as client:
                answer = await client.post("/", json={"object_id": object_id})
            assert (answer.status_code, answer.json()) == (
                500,
                {"message": "something went wrong here, please try again"},
            )


@pytest.mark.parametrize(
    ("raw", "short"),
    [
        (POST, 1),
        (request(f"POST / HTTP/1.0\nhost: h\nconnection: keep-alive\ncontent-length: {len(X)}", X), 0),
        (request(f"POST / HTTP/1.1\nhost: h\nconnection: close\ncontent-length: {len(X)}", X), 0),
        (request(f"POST / HTTP/1.1\nhost: h\nexpect: 100-continue\ncontent-length: {len(X)}", X), 0),
        (request("POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked", b"12\r\n" + X + b"\r\n0\r\n\r\n"), 0),
        (request("POST / HTTP/1.1\nhost: h\nContent-Length: 18\nX-Other: \xe4", X), 1),
    ],
    ids=["ordinary", "1.0", "close", "expect", "chunked", "names in capitals"],
)
async def test_only_ordinary_requests_take_the_shortcut(raw: bytes, short: int) -> None:
    """All others are answered all the same, by the framework."""
    async with Served(shortcut=True).running() as served:
        heard = await served.spoken(raw)
        assert b"201 Created" in heard
        assert b'{"message":{"job_id":"%b"}}' % KNOWN.encode() in heard
        assert (b"100 Continue" in heard) == (b"100-continue" in raw)
        assert served.contract.short == short


async def test_requests_sent_without_waiting_are_answered_in_their_order() -> None:
    """The second goes uvicorn's way when the first is still under way, and waits for it there."""
    async with Served(shortcut=True).running() as served:
        speaking = asyncio.create_task(served.spoken(POST_LATER + GET + POST, answers=3))
        await eventually(lambda: served.service.open)
        # All three came in one piece, so whoever would not wait has asked by now.
        assert served.service.asked == 1
        served.service.open[0].set_result(UNKNOWN)
        heard = await speaking
        assert heard.index(UNKNOWN.encode()) < heard.index(b'"object_id":"x"') < heard.rindex(b"201 Created")
        assert served.contract.short == 1


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close with an RST: nothing may be sent any more."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()


async def test_a_caller_who_hangs_up_disturbs_nobody() -> None:
    """The answer for nobody is dropped, and the connection forgotten."""
    async with Served(shortcut=True).running() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(POST_LATER)
        await eventually(lambda: served.service.open)
        hang_up(writer)
        await eventually(lambda: not served.connections)
        served.service.open[0].set_result(KNOWN)
        async with served.caller() as client:
            assert (await client.post("/", json={"object_id": "x"})).status_code == 201
        assert served.state.total_requests == 1


async def test_a_caller_who_hangs_up_in_the_middle_of_a_body_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """It is nobody's fault, and nobody is left to be answered."""
    async with Served(shortcut=True).running() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request("POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked", b"5\r\nxxxxx\r\n"))
        await eventually(lambda: served.state.tasks)
        hang_up(writer)
        await eventually(lambda: not served.state.tasks)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_answer_under_way_at_the_end_arrives_and_closes_its_connection() -> None:
    """Whoever was let in is answered, and told to go elsewhere."""
    async with Served(shortcut=True).running() as served:
        speaking = asyncio.create_task(served.spoken(POST_LATER))
        await eventually(lambda: served.service.open)
        stopping = asyncio.create_task(served.server.stop())
        await eventually(served.refuses)
        served.service.open[0].set_result(KNOWN)
        heard = await speaking
        async with asyncio.timeout(5):
            await stopping
    assert b"201 Created" in heard
    assert b"connection: close" in heard


async def test_who_came_before_the_end_is_answered_even_if_nobody_has_let_him_in_yet() -> None:
    """A connection that waits in the listener's queue has its request in it, and who sent it may not send it again."""
    async with Served(shortcut=True).running() as served:
        async with served.caller() as client:
            await client.post("/", json={"object_id": "x"})
        with contextlib.ExitStack() as open_connections:
            waiting = []
            # No step of the loop is made in between, so nobody is let in.
            for _ in range(20):
                connection = open_connections.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                connection.sendall(POST)
                connection.setblocking(False)  # noqa: FBT003 - the standard library's own signature
                waiting.append(connection)
            stopping = asyncio.create_task(served.server.stop())
            heard = [await asyncio.get_running_loop().sock_recv(connection, 10_000) for connection in waiting]
        async with asyncio.timeout(5):
            await stopping
    assert all(b"201 Created" in one and b"connection: close" in one for one in heard), heard
