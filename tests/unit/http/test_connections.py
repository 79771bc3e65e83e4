"""Connections that do what no HTTP library would: every request that was understood is answered, in order, once."""

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from hasty.server.runtime import http
from tests.eventually import eventually
from tests.unit.http.served import GET, KNOWN, POST, POST_LATER, UNKNOWN, Served, X, hang_up, request

GARBAGE = b"\x00 this is no HTTP\r\n\r\n"
CHUNKED = request("POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked")
NO_SUCH_PATH = "/a/b"

pytestmark = pytest.mark.parametrize("way", ["short", "long"])


@pytest.fixture
async def served(way: str) -> AsyncIterator[Served]:
    """A server with the shortcut, or without."""
    async with Served(shortcut=way == "short").running() as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No input makes the server log anything that somebody would have to look at."""
    yield
    assert [line.getMessage() for line in caplog.get_records("call") if line.levelno >= logging.WARNING] == []


@dataclass
class Heard:
    """What a server answered until it closed the connection: status codes, and what the bodies said in JSON."""

    statuses: list[int] = field(default_factory=list)
    messages: list[object] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


class Raw:
    """A connection on which anything may be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.heard = Heard()

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each of them in a segment of its own as far as that can be had."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self) -> bool:
        """Read one more answer; False when the connection was closed instead."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return False
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        status = int(head.split()[1])
        body = json.loads(await self._reader.readexactly(int(headers["content-length"])))
        self.heard.statuses.append(status)
        if headers["content-type"] == "application/problem+json":
            assert (list(body), body["status"]) == (["type", "title", "status", "detail"], status)
            self.heard.problems.append((body["type"], body["detail"]))
        else:
            assert (headers["content-type"], list(body)) == ("application/json", ["message"])
            self.heard.messages.append(body["message"])
        self.heard.heads.append(head.lower())
        return True

    async def all(self) -> Heard:
        """Read until the server closes the connection."""
        async with asyncio.timeout(20):
            while await self.answer():
                pass
        return self.heard


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Raw]:
    """A connection; at the end, the server has forgotten it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
    await eventually(lambda: not served.connections and not served.state.tasks)


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "\n".join(f"x-{number}: y" for number in range(200)),
        "\n".join(f"x-{number}: {'y' * 1000}" for number in range(60)),
        f"x: {'y' * 100_000}",
        f"{'x' * 100_000}: y",
    ],
    ids=["many", "many bytes", "one huge value", "one huge name"],
)
async def test_too_large_headers_get_431(served: Served, head: str) -> None:
    """In JSON, and the connection is closed; the request is not passed on."""
    async with connected(served) as raw:
        await raw.send(request(f"POST / HTTP/1.1\nhost: h\ncontent-length: {len(X)}\n{head}", X))
        heard = await raw.all()
    assert heard.statuses == [431]
    assert heard.messages == ["the headers are too large: at most 100 of them and 32768 bytes in all"]
    assert "connection: close" in heard.heads[0]
    assert served.service.asked == 0


async def test_headers_within_the_limits_are_accepted(served: Served) -> None:
    """Just below both of them, in one segment and in many."""
    head = "\n".join(f"x-{number}: {'y' * 300}" for number in range(98))
    whole = request(f"POST / HTTP/1.1\nhost: h\ncontent-length: {len(X)}\n{head}", X)
    async with connected(served) as raw:
        await raw.send(whole, *(whole[start : start + 1000] for start in range(0, len(whole), 1000)))
        assert await raw.answer()
        assert await raw.answer()
    assert raw.heard.statuses == [201, 201]


@pytest.mark.parametrize("start", [b"GET /x HTTP/1.1\r\nx: ", b"GET /", CHUNKED + b"0\r\nx: "])
async def test_endless_header_is_cut_off(served: Served, start: bytes) -> None:
    """A value, a path or a trailer that never ends: long before 16 MiB were read, there is an answer."""
    async with connected(served) as raw:

        async def flood() -> None:
            await raw.send(start)
            for _ in range(256):
                await raw.send(b"y" * 65536)

        flooding = asyncio.create_task(flood())
        heard = await raw.all()
        assert not flooding.done() or flooding.exception() is not None
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
    assert heard.statuses == [431]


async def test_trailers_are_not_headers_of_the_next_request(served: Served) -> None:
    """They are read and dropped."""
    trailers = b"12\r\n" + X + b"\r\n0\r\nexpect: 100-continue\r\nx: y\r\n\r\n"
    async with connected(served) as raw:
        await raw.send(CHUNKED + trailers + GET)
        assert await raw.answer()
        assert await raw.answer()
    assert raw.heard.statuses == [201, 200]


# -- answers in order -------------------------------------------------------------------------------------------------


async def test_request_before_garbage_is_answered_first(served: Served) -> None:
    """In one segment: what was valid gets its answer, then comes the 400 and the end."""
    async with connected(served) as raw:
        await raw.send(POST + GARBAGE)
        heard = await raw.all()
    assert heard.statuses == [201, 400]
    assert heard.messages == [{"job_id": KNOWN}, "the request is not valid HTTP"]


async def test_slow_answer_before_garbage_arrives_first(served: Served) -> None:
    """However long the answer takes, and whatever is sent meanwhile."""
    async with connected(served) as raw:
        await raw.send(POST_LATER + GET + GARBAGE)
        await eventually(lambda: served.service.open)
        await raw.send(GET, GARBAGE)
        served.service.open[0].set_result(UNKNOWN)
        heard = await raw.all()
    assert heard.statuses == [201, 200, 400]
    assert heard.messages[0] == {"job_id": UNKNOWN}


async def test_two_requests_and_garbage_log_nothing(served: Served) -> None:
    """Nothing is written to a connection that is closed."""
    async with connected(served) as raw:
        await raw.send(GET + GET + GARBAGE)
        heard = await raw.all()
    assert heard.statuses == [200, 200, 400]


async def test_garbage_alone_gets_one_400(served: Served) -> None:
    """In JSON, as everything."""
    async with connected(served) as raw:
        await raw.send(GARBAGE, GARBAGE)
        heard = await raw.all()
    assert heard.statuses == [400]
    assert "connection: close" in heard.heads[0]


@pytest.mark.parametrize("before", [b"", GET, GET + POST], ids=["first", "second", "third"])
async def test_malformed_body_gets_one_400(served: Served, before: bytes) -> None:
    """Instead of its answer, after those of the requests before it; no job is made of it."""
    async with connected(served) as raw:
        await raw.send(before + CHUNKED + b"zz\r\n")
        heard = await raw.all()
    assert heard.statuses == [*[200, 201][: before.count(b"HTTP/1.1")], 400]
    assert served.service.asked == before.count(b"HTTP/1.1")


async def test_malformed_body_is_not_asked_to_continue(served: Served) -> None:
    """The 400 is the last thing that is written."""
    start = request("POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked\nexpect: 100-continue")
    async with connected(served) as raw:
        await raw.send(start + b"zz\r\n")
        heard = await raw.all()
    assert heard.statuses == [400]


async def test_answered_request_gets_no_second_answer(served: Served) -> None:
    """Its body turns out to be malformed after it was answered: the connection is closed."""
    async with connected(served) as raw:
        await raw.send(request(f"PUT {NO_SUCH_PATH} HTTP/1.1\nhost: h\ntransfer-encoding: chunked"))
        assert await raw.answer()
        await raw.send(b"zz\r\n")
        heard = await raw.all()
    assert heard.statuses == [404]


async def test_unanswered_upgrade_ends_the_connection(served: Served) -> None:
    """It is answered as if it had not asked for it; what follows might be another protocol, and is not read."""
    async with connected(served) as raw:
        upgrade = request(f"GET /{KNOWN} HTTP/1.1\nhost: h\nconnection: upgrade\nupgrade: h2c")
        await raw.send(GET + upgrade + POST)
        heard = await raw.all()
    assert heard.statuses == [200, 200]
    assert "connection: close" in heard.heads[1]
    assert served.service.asked == 2


UNREADABLE = {
    "header": (b"POST %b HTTP/1.1\r\nhost\r\n\r\n", 400, "the request is not valid HTTP"),
    "chunk": (CHUNKED.replace(b"POST /", b"POST %b") + b"zz\r\n", 400, "the request is not valid HTTP"),
    "head": (b"GET %b HTTP/1.1\r\nhost: h", 400, "the request broke off before it was complete"),
    "body": (POST[:-2].replace(b"POST /", b"POST %b"), 400, "the request broke off before it was complete"),
    "path": (b"GET %b", 400, "the request broke off before it was complete"),
    "large": (
        b"GET %b HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        431,
        "the headers are too large: at most 100 of them and 32768 bytes in all",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("target", [b"/v1/jobs", b"/v1/kinds?x=y", b"/v1"])
async def test_unreadable_request_of_v1_gets_a_problem(served: Served, target: bytes, name: str) -> None:
    """Where its target was read: as everything there."""
    sent, status, detail = UNREADABLE[name]
    async with connected(served) as raw:
        await raw.send(GET + sent % target)
        raw.writer.write_eof()
        heard = await raw.all()
    assert heard.statuses == [200, status]
    assert heard.problems == [("urn:hasty:problem:malformed", detail)]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/x HTTP/1.1\r\nhost: h\r\n\r\n" + GARBAGE,
        b"GET /v12 HTTP/1.1\r\n",
        b"GET /x/v1/jobs",
        b"GET",
    ],
    ids=["after a request of v1", "begins alike", "further on", "no path"],
)
async def test_unreadable_request_of_no_known_path_gets_a_message(served: Served, sent: bytes) -> None:
    """The original's shape, as everywhere but under `/v1`; the target of the request before it says nothing."""
    async with connected(served) as raw:
        await raw.send(sent)
        raw.writer.write_eof()
        heard = await raw.all()
    assert heard.statuses[-1] == 400
    assert "urn:hasty:problem:malformed" not in [name for name, _ in heard.problems]
    assert heard.messages[-1] in {text for _, _, text in UNREADABLE.values()}


# -- callers who leave ------------------------------------------------------------------------------------------------


async def test_half_closed_connection_gets_its_answers(served: Served) -> None:
    """A caller who has nothing more to send may still listen; then the connection is closed."""
    async with connected(served) as raw:
        await raw.send(POST_LATER + GET)
        raw.writer.write_eof()
        await eventually(lambda: served.service.open)
        served.service.open[0].set_result(UNKNOWN)
        heard = await raw.all()
    assert heard.statuses == [201, 200]


@pytest.mark.parametrize("part", [GET[:-2], POST[:-2], CHUNKED + b"12\r\n"], ids=["head", "body", "chunk"])
async def test_request_that_breaks_off_gets_400(served: Served, part: bytes) -> None:
    """When the caller still listens; no job is made of it."""
    async with connected(served) as raw:
        await raw.send(GET + part)
        raw.writer.write_eof()
        heard = await raw.all()
    assert heard.statuses == [200, 400]
    assert heard.messages[1] == "the request broke off before it was complete"
    assert served.service.asked == 1


async def test_idle_connection_closed_by_its_caller_is_closed(served: Served) -> None:
    """With no answer: nothing was asked."""
    async with connected(served) as raw:
        raw.writer.write_eof()
        assert (await raw.all()).statuses == []


@pytest.mark.parametrize("after", [b"", GET, GET + GARBAGE], ids=["alone", "request", "garbage"])
async def test_reset_while_requests_wait_disturbs_nobody(served: Served, after: bytes) -> None:
    """The answers of a caller who is gone are dropped, those of requests that wait behind it as well."""
    async with connected(served) as raw:
        await raw.send(POST_LATER + after)
        await eventually(lambda: served.service.open)
        hang_up(raw.writer)
        if not after:
            # With more requests behind it, nothing is read before the first is answered, and no reset is seen.
            await eventually(lambda: not served.connections)
        served.service.open[0].set_result(UNKNOWN)
    async with served.caller() as client:
        assert (await client.post("/", json={"object_id": "x"})).status_code == 201


async def test_no_timer_keeps_a_connection_that_is_gone(served: Served) -> None:
    """Idle ones wait for more than a minute."""
    async with connected(served) as raw:
        await raw.send(POST)
        assert await raw.answer()
        connection = weakref.ref(*served.connections)
        hang_up(raw.writer)
        await eventually(lambda: not served.connections)

    def is_freed() -> bool:
        gc.collect()
        return connection() is None

    await eventually(is_freed)


async def test_idle_connection_is_closed_and_a_busy_one_is_not(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts from the last answer, and a request under way may take longer."""
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.3)
    async with Served(shortcut=way == "short").running() as served, connected(served) as raw:
        await raw.send(GET)
        assert await raw.answer()
        await raw.send(POST_LATER)
        await eventually(lambda: served.service.open)
        [connection] = served.connections
        await eventually(lambda: connection._idle._timer is None)  # noqa: SLF001 - it has fired, and closed nothing
        served.service.open[0].set_result(UNKNOWN)
        assert (await raw.all()).statuses == [200, 201]
