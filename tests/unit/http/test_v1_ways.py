"""`/v1` straight from the connection and by the framework: the same answers, on a real HTTP server."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import httpx
import pytest

from api_server.http.answers import Shortcuts
from hasty.server.runtime.answer import Answer, Respond
from hasty.server.runtime.http import HttpServer
from tests.eventually import eventually
from tests.unit.http.served import hang_up, request
from tests.unit.http.v1_api import BODIES, Api


@dataclass
class Noting(Shortcuts):
    """Shortcuts that note what they answer."""

    api: Api
    noted: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.api.contract, self.api.parts.v1)

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Have what is answered noted."""
        respond = super().route(method, target)

        def noting(body: bytes, caller: str) -> asyncio.Future[Answer]:
            assert respond is not None
            self.noted.append(method + b" " + target)
            return respond(body, caller)

        return None if respond is None else noting


@dataclass
class Server:
    """A served api-server, and what came the short way."""

    api: Api
    port: int
    short: Noting | None

    def caller(self) -> httpx.AsyncClient:
        """A caller of it."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}")


@contextlib.asynccontextmanager
async def served(*, short: bool) -> AsyncIterator[Server]:
    """Serve an api-server that knows kinds, with ids that are the same in every run."""
    api = Api(itertools.count(1))
    await api.know_kinds()
    shortcut = Noting(api) if short else None
    async with HttpServer.running(api.app, host="127.0.0.1", port=0, drain_s=1, grace_s=2, shortcut=shortcut) as server:
        yield Server(api, server.port, shortcut)


def job_id(number: int) -> str:
    """The id of the first job that was made, or of the second, and so on."""
    return f"{number:08x}-0000-7000-8000-000000000000"


JOB = b'{"kind": "greet", "input": {"name": "Ada"}}'
KEYED = b'{"kind": "fetch", "input": {"url": "u"}}'
ASKED = [
    *(("POST", "/v1/jobs", body) for body in (JOB, KEYED, KEYED, *(body for body, _ in BODIES.values()))),
    ("GET", f"/v1/jobs/{job_id(1)}", b""),
    ("GET", f"/v1/jobs/{job_id(1)}?wait=0", b""),
    ("GET", f"/v1/jobs/{job_id(99)}", b""),
    ("GET", f"/v1/jobs/{job_id(99)}?wait=5", b""),
    ("GET", f"/{job_id(1)}", b""),
]


async def test_both_ways_give_the_same_answers() -> None:
    """Status, headers and body, for what is right and for what is wrong."""
    async with served(short=True) as short, served(short=False) as long:
        assert short.short is not None
        async with short.caller() as fast, long.caller() as framework:
            for method, path, body in ASKED:
                answers = [await caller.request(method, path, content=body) for caller in (fast, framework)]
                one, other = ((answer.status_code, dict(answer.headers), answer.content) for answer in answers)
                assert one == other, (method, path, body[:100])
        # The one body that is too long goes the framework's way.
        assert len(short.short.noted) == len(ASKED) - 1


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (f"GET /v1/jobs/{job_id(1)}?wait=61", ""),
        (f"GET /v1/jobs/{job_id(1)}?wait=1.5", ""),
        (f"GET /v1/jobs/{job_id(1)}?wait=-1", ""),
        (f"GET /v1/jobs/{job_id(1)}/timeline", ""),
        ("POST /v1/jobs?wait=1", ""),
        ("POST /v1/jobs", "\nidempotency-key: k"),
        (f"GET /v1/jobs/{job_id(1)}", "\nlast-event-id: -1"),
    ],
)
async def test_what_is_out_of_the_ordinary_goes_the_long_way(line: str, headers: str) -> None:
    """A parameter that must be checked, a header that a shortcut does not see."""
    async with served(short=True) as server:
        assert server.short is not None
        body = JOB if line.startswith("POST") else b""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(f"{line} HTTP/1.1\nhost: h\ncontent-length: {len(body)}{headers}", body))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
        writer.close()
        assert server.short.noted == []


async def test_waiter_that_hangs_up_is_forgotten() -> None:
    """At once: nobody holds a place for a caller that is gone."""
    async with served(short=True) as server, server.caller() as http:
        made = (await http.post("/v1/jobs", content=JOB)).json()["id"]
        assert made == job_id(1)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(f"GET /v1/jobs/{made}?wait=60 HTTP/1.1\nhost: h"))
        await eventually(lambda: len(server.api.parts.watch) == 1)
        hang_up(writer)
        await eventually(lambda: len(server.api.parts.watch) == 0)


async def test_waiter_on_the_short_way_gets_the_outcome() -> None:
    """As soon as it is there."""
    async with served(short=True) as server, server.caller() as http:
        made = (await http.post("/v1/jobs", content=JOB)).json()["id"]
        looking = asyncio.create_task(server.api.parts.watch.run())
        waiting = asyncio.create_task(http.get(f"/v1/jobs/{made}?wait=30"))
        await eventually(lambda: len(server.api.parts.watch) == 1)
        await server.api.world.end(server.api.parts, made, output=json.dumps("hello"))
        assert (await waiting).json()["output"] == "hello"
        looking.cancel()


async def test_kind_announced_a_moment_ago_is_found_on_the_short_way() -> None:
    """Another api-server has stored it."""
    async with served(short=True) as server, server.caller() as http:
        other = server.api.world.v1()
        kind = server.api.parts.kinds.versions("greet")[0]
        await server.api.world.announced(other, replace(kind, name="later"))
        response = await eventually(lambda: _accepted(http))
        assert response.json()["kind"] == "later"


async def _accepted(http: httpx.AsyncClient) -> httpx.Response:
    response = await http.post("/v1/jobs", content=JOB.replace(b"greet", b"later"))
    assert response.status_code == 201, response.text
    return response
