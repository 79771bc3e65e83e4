"""The shortcut and FastAPI answer alike: the same requests are asked both ways, over real connections."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest

from hasty.server.runtime.fast_path import BODY_MAX
from tests.eventually import eventually
from tests.unit.http.served import GET, KNOWN, POST, POST_LATER, UNKNOWN, Served, X, both_ways, hang_up, request

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


async def test_both_ways_know_the_caller_by_nginxs_header() -> None:
    """Whoever takes turns with others is known by the address that nginx saw; without nginx, by nothing."""
    async with both_ways() as servers:
        for served in servers:
            async with served.caller() as client:
                for headers in ({"X-Forwarded-For": "192.0.2.7"}, {}):
                    await client.post("/", content=X, headers=headers)
                    await client.get(f"/{KNOWN}", headers=headers)
            assert served.service.callers == ["192.0.2.7", "192.0.2.7", "", ""]
        assert (servers[0].contract.short, servers[1].contract.short) == (4, 0)


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


async def test_pipelined_requests_are_answered_in_their_order() -> None:
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


async def test_hanging_up_in_the_middle_of_a_body_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """It is nobody's fault, and nobody is left to be answered."""
    async with Served(shortcut=True).running() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request("POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked", b"5\r\nxxxxx\r\n"))
        await eventually(lambda: served.state.tasks)
        hang_up(writer)
        await eventually(lambda: not served.state.tasks)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_answer_under_way_at_the_end_arrives_and_closes() -> None:
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


async def test_short_grace_shortens_the_drain() -> None:
    """Idle clients get half of the grace; here they would get an hour of it."""
    async with Served(shortcut=True, drain_s=3600, grace_s=1).running() as served, served.caller() as client:
        assert (await client.post("/", json={"object_id": "x"})).status_code == 201
        assert len(served.connections) == 1
        async with asyncio.timeout(30):
            await served.server.stop()
        assert served.connections == []


async def test_cancelled_request_closes_its_connection() -> None:
    """Whoever stops waiting inside leaves no caller waiting outside."""
    async with both_ways() as servers:
        for served in servers:
            speaking = asyncio.create_task(served.spoken(POST_LATER))
            await eventually(lambda: served.service.open)  # noqa: B023 - awaited in the same turn
            served.service.open[0].cancel()
            assert b"201" not in await speaking


async def test_connection_in_the_backlog_at_the_end_is_answered() -> None:
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
