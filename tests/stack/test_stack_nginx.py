"""What nginx does by itself: refusals in the contract's shape, no replayed POST, a log that can be read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from local_stack import Stack
from tests.eventually import eventually
from tests.stack.stacks import config

pytestmark = pytest.mark.own_stack


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Two stand-ins behind nginx."""
    async with Stack.running(config(tmp_path, api_servers=2, job_servers=0, restart_pause_s=5)) as running:
        yield running


@pytest_asyncio.fixture
async def caller(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of that nginx."""
    async with httpx.AsyncClient(base_url=stack.url) as client:
        yield client


async def raw(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of whatever a request is answered with that no client would send."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(60):
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(status.split(" ")[1]), headers, body


def lines(stack: Stack) -> list[dict[str, object]]:
    """The access log of nginx, without what it says about itself."""
    text = stack.children["nginx"].log.read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


REFUSALS = [
    pytest.param(b"nonsense\r\n\r\n", 400, id="no request line"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
    pytest.param(b"GET /../../x HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="above the root"),
    pytest.param(b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="NUL"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400, id="no length"),
    pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, id="healthz"),
    pytest.param(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, id="readyz"),
    pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, id="metrics"),
    pytest.param(
        b"GET /x/..//%6detrics/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, id="metrics by a detour"
    ),
    pytest.param(b"GET /hasty/error HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, id="nginx's own"),
    pytest.param(b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, id="trace"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, id="long body"),
    pytest.param(b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, id="long path"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431, id="long header"),
]


@pytest.mark.parametrize(("request_bytes", "expected"), REFUSALS)
async def test_refusals_of_nginx_have_the_contracts_shape(stack: Stack, request_bytes: bytes, expected: int) -> None:
    """Whoever refuses: JSON with one message."""
    status, headers, body = await raw(stack.url, request_bytes)
    assert (status, headers["content-type"]) == (expected, "application/json")
    assert list(json.loads(body)) == ["message"]
    assert isinstance(json.loads(body)["message"], str)


async def test_a_dead_api_server_is_skipped(stack: Stack, caller: httpx.AsyncClient) -> None:
    """What cannot have been read is sent to the other one, POST or not."""
    await stack.children["api-server-1"].kill()
    for method in ("GET", "POST") * 10:
        response = await caller.request(method, "/x")
        assert (response.status_code, response.json()["pid"]) == (200, stack.children["api-server-2"].pid)


async def test_without_any_api_server_the_answer_is_503_and_when_to_come_back(
    stack: Stack, caller: httpx.AsyncClient
) -> None:
    """Not a 502: it is for the caller to try again, and says so."""
    for name in ("api-server-1", "api-server-2"):
        await stack.children[name].kill()
    response = await caller.post("/")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert list(response.json()) == ["message"]


async def test_a_post_that_was_read_is_never_sent_to_another(stack: Stack, caller: httpx.AsyncClient) -> None:
    """It may have made a job already: the caller has to find out."""
    response = await caller.post("/die")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    logs = [stack.children[name].log.read_text() for name in ("api-server-1", "api-server-2")]
    assert sum(log.count("POST /die") for log in logs) == 1


async def test_connections_to_the_api_servers_are_kept(caller: httpx.AsyncClient) -> None:
    """No handshake per request: one connection for each worker and api-server at the most."""
    seen = [(await caller.post("/", content=b"x" * 65536)).json() for _ in range(40)]
    assert len({(answer["pid"], answer["connection"]) for answer in seen}) <= 4
    assert all("connection" not in answer["headers"] for answer in seen)


async def test_a_request_has_one_id_from_the_caller_to_the_log(stack: Stack, caller: httpx.AsyncClient) -> None:
    """The service sees it, the caller gets it, the log has it beside the upstream's time."""
    response = await caller.get("/some-job")
    request_id = response.headers["x-request-id"]
    assert response.json()["headers"]["x-request-id"] == request_id
    await eventually(lambda: [line for line in lines(stack) if line["request_id"] == request_id])
    [line] = [line for line in lines(stack) if line["request_id"] == request_id]
    assert (line["status"], line["method"], line["uri"]) == (200, "GET", "/some-job")
    assert line["upstream"] in {stack.children[name].address for name in ("api-server-1", "api-server-2")}
    assert float(str(line["upstream_s"])) >= 0
    assert isinstance(line["request_s"], float)


async def test_the_health_check_of_the_container_is_not_logged(stack: Stack, caller: httpx.AsyncClient) -> None:
    """It would be most of the log."""
    for path in ("/is-anyone-there", "/some-job"):
        assert (await caller.get(path)).status_code == 200
    await eventually(lambda: lines(stack)[-1:] and lines(stack)[-1]["uri"] == "/some-job")
    assert "/is-anyone-there" not in [line["uri"] for line in lines(stack)]


async def test_a_thousand_requests_at_once_from_one_address_pass(stack: Stack) -> None:
    """The limits are for floods."""
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    answers = await asyncio.gather(*(raw(stack.url, post) for _ in range(1000)))
    assert {status for status, _, _ in answers} == {200}
