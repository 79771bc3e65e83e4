"""What nginx does by itself: refusals in the contract's shape, no replayed POST, a log that can be read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack, nginx
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
    pytest.param(b"invalid\r\n\r\n", 400, id="no request line"),
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


V1_REFUSALS = [
    pytest.param(b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "no-such-path", id="v1"),
    pytest.param(b"TRACE /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method-not-allowed", id="trace"),
    pytest.param(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, "too-large", id="body"),
    pytest.param(b"GET /v1/\x80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, "malformed", id="no ASCII"),
    pytest.param(b"GET /v1/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431, "malformed", id="header"),
]


@pytest.mark.parametrize(("request_bytes", "expected", "name"), V1_REFUSALS)
async def test_refusals_of_nginx_under_v1_are_problems(
    stack: Stack, request_bytes: bytes, expected: int, name: str
) -> None:
    """As the api-server's own are."""
    status, headers, body = await raw(stack.url, request_bytes)
    problem = json.loads(body)
    assert (status, headers["content-type"]) == (expected, "application/problem+json")
    assert (problem["status"], problem["type"]) == (expected, f"urn:hasty:problem:{name}")
    assert problem["detail"]


async def test_without_any_api_server_v1_is_unavailable(stack: Stack, caller: httpx.AsyncClient) -> None:
    """A problem that says when to come back."""
    for name in ("api-server-1", "api-server-2"):
        await stack.children[name].kill()
    response = await caller.post("/v1/jobs")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:hasty:problem:unavailable"


async def test_a_dead_api_server_is_skipped(stack: Stack, caller: httpx.AsyncClient) -> None:
    """What cannot have been read is sent to the other one, POST or not."""
    await stack.children["api-server-1"].kill()
    for method in ("GET", "POST") * 10:
        response = await caller.request(method, "/x")
        assert (response.status_code, response.json()["pid"]) == (200, stack.children["api-server-2"].pid)


async def test_without_api_servers_nginx_answers_503_and_retry_after(stack: Stack, caller: httpx.AsyncClient) -> None:
    """Not a 502: it is for the caller to try again, and says so."""
    for name in ("api-server-1", "api-server-2"):
        await stack.children[name].kill()
    response = await caller.post("/")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert list(response.json()) == ["message"]
    await eventually(lambda: lines(stack))
    assert [(line["method"], line["uri"], line["status"]) for line in lines(stack)] == [("POST", "/", 503)]


async def test_a_post_that_was_read_is_never_sent_to_another(stack: Stack, caller: httpx.AsyncClient) -> None:
    """It may have made a job already: the caller has to find out."""
    response = await caller.post("/die")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    logs = [stack.children[name].log.read_text() for name in ("api-server-1", "api-server-2")]
    assert sum(log.count("POST /die") for log in logs) == 1


async def test_unanswered_post_is_never_sent_to_another_server(stack: Stack) -> None:
    """It may be read yet."""
    api_servers = [stack.children[name] for name in ("api-server-1", "api-server-2")]
    for child in api_servers:
        child.pause()
    async with httpx.AsyncClient(timeout=30) as caller:
        response = await caller.post(f"{stack.url}/slow")
    for child in api_servers:
        child.resume()
    assert (response.status_code, response.headers["retry-after"]) == (504, "1")
    await eventually(lambda: lines(stack))
    [line] = lines(stack)
    assert line["upstream"] in {child.address for child in api_servers}, "more than one was asked"


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


class Names(asyncio.DatagramProtocol):
    """A name server that knows one name, and tells who has it now."""

    def __init__(self) -> None:
        self.port = 0
        self.answered = 0
        self.addresses: list[str] = []

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["Names"]:
        """Serve on the loopback interface."""
        transport, names = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        try:
            yield names
        finally:
            transport.close()

    async def known(self, addresses: list[str]) -> None:
        """Tell these from now on, and return when nginx has been told."""
        self.addresses = addresses
        before = self.answered
        await eventually(lambda: self.answered >= before + 2)

    def connection_made(self, transport: Any) -> None:
        """Learn where to answer."""
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question for an IPv4 address, as RFC 1035, 4.1 has it: the question again, and an A for each."""
        self.answered += 1
        found = [b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04" + socket.inet_aton(one) for one in self.addresses]
        head = data[:2] + b"\x81\x80\0\x01" + len(found).to_bytes(2, "big") + bytes(4)
        self._transport.sendto(head + data[12:] + b"".join(found), addr)


@contextmanager
def gone(*addresses: tuple[str, int]) -> Iterator[None]:
    """Addresses that answer nothing at all: their queues are full, and another knock is not even refused."""
    opened = []
    try:
        for address in addresses:
            opened.append(listener := socket.socket())
            listener.bind(address)
            listener.listen(0)
            opened.append(socket.create_connection(address))
        yield
    finally:
        for one in opened:
            one.close()


def knocks(nginx: int | None, *addresses: tuple[str, int]) -> bool:
    """Whether nginx is connecting to one of them right now: its connection is not answered yet."""
    connections = [one for worker in psutil.Process(nginx).children() for one in worker.net_connections("tcp4")]
    return any(one.raddr in addresses and one.status == psutil.CONN_SYN_SENT for one in connections)


@pytest.mark.parametrize("before", [["127.0.9.2"], ["127.0.9.2", "127.0.9.3"]], ids=["one", "two"])
@pytest.mark.parametrize("after", [["127.0.0.1"], ["127.0.0.1", "127.0.9.4"]], ids=["one", "another that starts"])
async def test_request_survives_a_change_of_api_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str], after: list[str]
) -> None:
    """The one that has come meanwhile answers it, POST or not."""
    render = nginx.render

    def render_as_for_containers(
        folder: Path, listen: str, control: str, api_servers: Iterable[str], generation: int, ui: str
    ) -> None:
        [address] = api_servers
        render(folder, listen, control, [address], generation, ui)
        written = folder / "conf.d" / "hasty.conf"
        server = f"server api-server:{address.rpartition(':')[2]} resolve fail_timeout=6s;"
        resolver = f"resolver 127.0.0.1:{names.port} valid=1s ipv6=off;"
        written.write_text(f"{resolver}\n" + written.read_text().replace(f"server {address} max_fails=0;", server))

    monkeypatch.setattr(nginx, "render", render_as_for_containers)
    async with Names.serving() as names:
        names.addresses = ["127.0.0.1"]
        async with Stack.running(config(tmp_path, job_servers=0)) as stack, httpx.AsyncClient(timeout=10) as caller:
            port, asking = stack.children["api-server-1"].port, stack.children["nginx"].pid
            theirs = [(address, port) for address in before]
            with gone(*theirs):
                await names.known(before)
                assert not knocks(asking, *theirs)
                request = asyncio.create_task(caller.post(stack.url, content=b"x"))
                await eventually(lambda: knocks(asking, *theirs))
                names.addresses = after
                response = await request
            await eventually(lambda: lines(stack))
            [line] = lines(stack)
    assert (response.status_code, line["status"]) == (200, 200), response.text
    assert response.json()["method"] == "POST"
    assert str(line["upstream"]).startswith("127.0.9.2:"), "it did not wait for the one that is gone"
