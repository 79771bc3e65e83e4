"""The proxy itself: what it does to bytes, and what it reads off them."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import bson
import pytest
from pymongo import AsyncMongoClient, WriteConcern

from tests.chaos.proxies import Journalling, LinkState, Proxy

SOON_S = 0.25
OP_QUERY = 2004
OP_MSG = 2013


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy to a server that answers every line with the same line."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy("a", "b", server.sockets[0].getsockname()[:2])
    yield proxy
    await proxy.close()
    server.close()


@contextlib.asynccontextmanager
async def dialled(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through the proxy, over which one line has come back already."""
    host, _, port = proxy.listen().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        yield reader, writer
    finally:
        writer.close()


async def _heard(reader: asyncio.StreamReader) -> bytes | None:
    """A line, or None when none comes for a while."""
    try:
        return await asyncio.wait_for(reader.readline(), SOON_S)
    except TimeoutError:
        return None


async def test_a_cut_ends_connections_and_refuses_new_ones(proxy: Proxy) -> None:
    """As a pulled cable and a reset do; afterwards it works again."""
    async with dialled(proxy) as (reader, writer):
        proxy.set_state(LinkState.CUT)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        again_reader, again = await asyncio.open_connection(*writer.get_extra_info("peername"))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await again_reader.readexactly(1)
        again.close()
        proxy.set_state(LinkState.FAIR)
        healed_reader, healed = await asyncio.open_connection(*writer.get_extra_info("peername"))
        healed.write(b"back\n")
        assert await healed_reader.readline() == b"back\n"
        healed.close()


@pytest.mark.parametrize("state", [LinkState.BLACK_HOLE, LinkState.DEAF, LinkState.DUMB])
async def test_what_is_held_back_arrives_whole_afterwards(proxy: Proxy, state: LinkState) -> None:
    """A stream stands still and goes on; it never has a hole."""
    async with dialled(proxy) as (reader, writer):
        proxy.set_state(state)
        writer.write(b"one\n")
        assert await _heard(reader) is None
        proxy.set_state(LinkState.FAIR)
        writer.write(b"two\n")
        assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]


async def test_an_answer_alone_is_lost(proxy: Proxy) -> None:
    """What was asked has arrived; the connection ends instead of the answer."""
    async with dialled(proxy) as (reader, writer):
        proxy.set_state(LinkState.LOSE_ANSWER)
        writer.write(b"do it\n")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert proxy.lost_answers == 1


async def test_slow_is_slow(proxy: Proxy) -> None:
    """Both ways take the delay."""
    async with dialled(proxy) as (reader, writer):
        proxy.set_state(LinkState.SLOW)
        proxy.delay_s = 0.1
        began = asyncio.get_running_loop().time()
        writer.write(b"slowly\n")
        assert await reader.readline() == b"slowly\n"
        assert asyncio.get_running_loop().time() - began >= 0.2


@pytest.mark.parametrize(
    ("concern", "journalled"),
    [(WriteConcern(w=1, j=True), True), (WriteConcern(w=1), False), (WriteConcern(w=1, j=False), False)],
)
async def test_the_journal_is_seen_to_be_asked_for(concern: WriteConcern, *, journalled: bool) -> None:
    """Read off the bytes of a real client, which gets no answer."""
    seen = Journalling()
    silent = await asyncio.start_server(_greet_as_a_database, "127.0.0.1", 0)
    proxy = Proxy("a", "mongo", silent.sockets[0].getsockname()[:2], seen)
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
        f"mongodb://{proxy.listen()}/?directConnection=true&retryWrites=false", serverSelectionTimeoutMS=2000
    )
    try:
        await client.db.get_collection("c", write_concern=concern).insert_one({"_id": 1})
    finally:
        await client.close()
        await proxy.close()
        silent.close()
    assert (seen.journalled, seen.not_journalled) == ((1, 0) if journalled else (0, 1))


async def _greet_as_a_database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say yes to every command."""
    yes = {"ok": 1.0, "n": 1, "ismaster": True, "maxWireVersion": 21, "minWireVersion": 0, "helloOk": True}
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            length, request, _, op = struct.unpack("<iiii", await reader.readexactly(16))
            await reader.readexactly(length - 16)
            if op == OP_QUERY:
                body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(yes)
                writer.write(struct.pack("<iiii", 16 + len(body), 0, request, 1) + body)
            else:
                body = b"\x00\x00\x00\x00\x00" + bson.encode(yes)
                writer.write(struct.pack("<iiii", 16 + len(body), 0, request, OP_MSG) + body)
    writer.close()
