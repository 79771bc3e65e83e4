"""The clients on a real server that breaks connections as a test says: what one does, the others do as well."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from hasty.client import AsyncHasty, Hasty, NoSuchJob, Unreachable
from hasty.client.light import LightHasty, direct
from tests.unit.client.scripted import JOB_ID, event, job

DONE = job("finished", output="hello", revision=2)


def http(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    """An answer."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A stream."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + parts + (b"0\r\n\r\n" if end else b"")


@dataclass
class Server:
    """Gives a connection's only request the next of `answers`, and hangs up; the requests are kept."""

    answers: list[bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        body = await reader.readexactly(length)
        self.requests.append((head + body).decode())
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(answers: Sequence[bytes]) -> AsyncIterator[Server]:
    """A server, until the block is left."""
    made = Server(list(answers))
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/below"
        yield made


async def _blocking(url: str, name: str, /, *args: Any, maker: type[Hasty] = Hasty, **values: Any) -> Any:
    def call() -> Any:
        with maker(url, retry_for_s=5) as client:
            result = getattr(client, name)(*args, **values)
            return list(result) if name in {"events", "jobs"} else result

    return await asyncio.to_thread(call)


async def _light(url: str, name: str, /, *args: Any, **values: Any) -> Any:
    return await _blocking(url, name, *args, maker=LightHasty, **values)


async def _asynchronous(url: str, name: str, /, *args: Any, **values: Any) -> Any:
    async with AsyncHasty(url, retry_for_s=5) as client:
        result = getattr(client, name)(*args, **values)
        return [each async for each in result] if name in {"events", "jobs"} else await result


Shell = Callable[..., Awaitable[Any]]
MAKERS: dict[Shell, type[Hasty]] = {_blocking: Hasty, _light: LightHasty}
every = pytest.mark.parametrize("call", [_blocking, _light, _asynchronous])


@every
async def test_lost_answer_is_asked_for_again(call: Shell) -> None:
    """With the same body, under the same key: nothing came, half of it, a proxy's page, and then a job."""
    answers = [b"", http(201, b"{}")[:-1], http(502, b"<html>", "text/html"), http(201, json.dumps(DONE).encode())]
    async with serving(answers) as server:
        made = await call(server.url, "submit", "greet", name="ü")
    assert (made.output, len(server.requests), len(set(server.requests))) == ("hello", 4, 1)
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /below/v1/jobs HTTP/1.1\r\n")
    assert "idempotency-key: " in head.lower()
    assert json.loads(body) == {"kind": "greet", "input": {"name": "ü"}}


@every
async def test_broken_stream_is_opened_again(call: Shell) -> None:
    """Cut off within a chunk, and ended in between."""
    first = job(revision=1)
    cut = chunked(event(first), event(DONE)[:20], end=False)[:-5]
    answers = [cut, chunked(b":\n\n"), chunked(event(first), event(DONE))]
    async with serving(answers) as server:
        told = await call(server.url, "events", JOB_ID)
    assert [each.status for each in told] == ["processing", "finished"]
    assert ["last-event-id: 1" in request.lower() for request in server.requests] == [False, True, True]


@every
async def test_list_is_read_page_by_page(call: Shell) -> None:
    """To its end."""
    pages = [{"data": [DONE], "next": "x"}, {"data": [DONE], "next": None}]
    async with serving([http(200, json.dumps(page).encode()) for page in pages]) as server:
        assert len(await call(server.url, "jobs", status="finished")) == 2
    assert "status=finished&after=x&limit=100" in server.requests[1]


@every
async def test_refused_stream_says_why(call: Shell) -> None:
    """By its body."""
    body = b'{"type": "urn:hasty:problem:no-such-job", "detail": "no job"}'
    async with serving([http(404, body, "application/problem+json")]) as server:
        with pytest.raises(NoSuchJob, match="no job"):
            await call(server.url, "events", JOB_ID)


@every
async def test_nobody_there_is_said(call: Shell) -> None:
    """After the time for it; here there is none."""
    async with serving([]) as server:
        pass
    client = AsyncHasty(server.url, retry_for_s=0) if call is _asynchronous else MAKERS[call](server.url, retry_for_s=0)
    with pytest.raises(Unreachable, match=f"{server.url} cannot be reached"):
        await asyncio.to_thread(client.get, JOB_ID) if isinstance(client, Hasty) else await client.get(JOB_ID)
    await asyncio.to_thread(client.close) if isinstance(client, Hasty) else await client.close()


@pytest.mark.parametrize(
    "variables", [{}, {"http_proxy": "http://proxy"}, {"ALL_PROXY": "socks5://proxy"}], ids=["none", "http", "all"]
)
def test_light_client_leaves_the_rest_to_httpx(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS, logins and proxies."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    urls = ("http://localhost:8080", "http://[::1]/below", "https://localhost", "http://me:secret@localhost")
    assert [direct(url) for url in urls] == [not variables, not variables, False, False]


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "x y", "http://x y", "http://x:y", "http://[x"]
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    """With how to write it."""
    with pytest.raises(ValueError, match="write it as in http://localhost:8080"):
        Hasty(url)


def test_url_is_given_or_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or where `hasty up` listens."""
    monkeypatch.setenv("HASTY_URL", "http://there/")
    with Hasty() as told, Hasty("http://here") as given:
        assert (told.url, given.url) == ("http://there", "http://here")
    monkeypatch.delenv("HASTY_URL")
    with Hasty() as usual:
        assert usual.url == "http://localhost:8080"


def test_both_clients_have_the_same_methods() -> None:
    """With the same parameters and the same words."""

    def described(cls: type) -> dict[str, tuple[object, str | None]]:
        named = {name: each for name, each in vars(cls).items() if inspect.isfunction(each) and name[0] != "_"}
        return {name: (inspect.signature(each).parameters, each.__doc__) for name, each in named.items()}

    assert described(Hasty) == described(AsyncHasty)
    assert {"submit", "submit_many", "get", "wait", "events", "jobs", "cancel", "retry"} <= described(Hasty).keys()
