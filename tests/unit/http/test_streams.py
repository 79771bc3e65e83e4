"""Streams and waiters on a real HTTP server: how many there may be, what they ask the database, what they may hold."""

import asyncio
import gc
import itertools
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api_server import changes
from api_server.domain import JobRecord
from api_server.http import streams
from hasty.jobs import Report, Status
from hasty.server.runtime.http import HttpServer
from tests.eventually import eventually
from tests.unit.http.served import hang_up, request
from tests.unit.http.v1_api import Api, post, problem_of

STREAM = {"Accept": "text/event-stream"}
PATHS = ["/v1/jobs", "/v1/overview", "/v1/jobs/00000001-0000-7000-8000-000000000000"]


class Server:
    """A served api-server with one job."""

    def __init__(self, api: Api, server: HttpServer) -> None:
        self.api = api
        self.port = server.port
        self.streams = api.parts.v1.lists.streams
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", limits=httpx.Limits(max_connections=None), timeout=20
        )

    async def ask_raw(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream on a connection of its own, with a small buffer for what is not read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)  # noqa: FBT003 - positional only
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        writer.write(request(f"GET {path} HTTP/1.1\nhost: h\naccept: text/event-stream"))
        return reader, writer


@asynccontextmanager
async def serving(*, streams_max: int = 10, waiting_max: int = 10) -> AsyncIterator[Server]:
    """Serve an api-server with these bounds."""
    api = Api(itertools.count(1))
    api.parts.v1.lists.streams._streams_max = streams_max  # noqa: SLF001 - the real ones are large
    api.parts.watch._waiting_max = waiting_max  # noqa: SLF001
    await api.know_kinds()
    async with HttpServer.running(
        api.app, host="127.0.0.1", port=0, drain_s=1, grace_s=2, shortcut=api.parts.v1
    ) as http:
        server = Server(api, http)
        async with server.http:
            await post(server.http, name="Ada")
            yield server
            api.parts.watch.close()


async def test_streams_beyond_the_bound_are_refused() -> None:
    """With 503 and Retry-After, also when all come at once; when one has ended, another may come."""
    async with serving(streams_max=3) as server, AsyncExitStack() as stack:
        opened = await asyncio.gather(
            *(stack.enter_async_context(server.http.stream("GET", path, headers=STREAM)) for path in PATHS * 4)
        )
        refused = [response for response in opened if response.status_code != 200]
        assert (len(server.streams), len(refused)) == (3, 9)
        for response in refused:
            await response.aread()
            assert problem_of(response) == (503, "busy")
            assert response.headers["retry-after"] == "1"
        await stack.aclose()
        # An idle stream notices with its second comment, ten seconds later, that its client is gone.
        await eventually(lambda: len(server.streams) == 0, within_s=60)
        async with server.http.stream("GET", PATHS[0], headers=STREAM) as response:
            assert response.status_code == 200


@pytest.mark.parametrize("path", [PATHS[2], f"{PATHS[2]}?"])
async def test_waiters_beyond_the_bound_are_refused(path: str) -> None:
    """With 503 and Retry-After, on the short way and on the long one; who does not wait is answered."""
    async with serving(waiting_max=2) as server:
        waiting = [asyncio.create_task(server.http.get(f"{PATHS[2]}?wait=60")) for _ in range(2)]
        await eventually(lambda: len(server.api.parts.watch) == 2)
        wait = "wait=5.0" if path.endswith("?") else "?wait=5"
        refused = await server.http.get(f"{path}{wait}")
        assert problem_of(refused) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert (await server.http.get(PATHS[2])).status_code == 200
        server.api.parts.watch.close()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_streams_share_their_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: not one query for each of them at each look."""
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    asked: list[int] = []
    async with serving(streams_max=100) as server, AsyncExitStack() as stack:
        look = server.api.world.store.records

        async def counted(job_ids: Sequence[str]) -> dict[str, JobRecord]:
            asked.append(len(job_ids))
            return await look(job_ids)

        ids = [(await post(server.http, name=str(n))).json()["id"] for n in range(50)]
        for job_id in ids:
            await stack.enter_async_context(server.http.stream("GET", f"/v1/jobs/{job_id}", headers=STREAM))
        monkeypatch.setattr(server.api.world.store, "records", counted)
        asked.clear()
        await eventually(lambda: sum(asked) >= 1_000)
        assert len(asked) <= sum(asked) / 5


async def test_slow_reader_holds_a_bounded_number_of_changes() -> None:
    """What it is not sent is dropped, and it is told so when it reads on."""
    async with serving() as server:
        job_id = PATHS[2].rpartition("/")[2]
        job = replace(server.api.world.store.jobs[job_id], status=Status.FINISHED)
        large = JobRecord(job, None, None, Report("w", "v", 1, 2, output=json.dumps("x" * 30_000)), ())
        reader, writer = await server.ask_raw("/v1/jobs")
        followers = server.api.parts.changes._followers  # noqa: SLF001 - nothing else tells what they hold
        await eventually(lambda: followers)
        [follower] = followers
        passed_on = 0
        while not follower._dropped:  # noqa: SLF001
            # Until the connection takes no more. A reader that takes everything would never be behind by so much.
            follower.put([changes.Change(large)] * 100, dropped=False)
            passed_on += 100
            assert passed_on < 10 * changes.HELD_MAX
            assert len(follower._held) <= changes.HELD_MAX  # noqa: SLF001
            for _ in range(200):
                await asyncio.sleep(0)
        received = b""
        while b"event: reload" not in received[-50_000:]:
            received = received[-50_000:] + await reader.read(65_536)
        hang_up(writer)
        await eventually(lambda: len(server.streams) == 0)


async def test_open_streams_keep_nothing_of_their_requests() -> None:
    """Neither the scope nor the coroutines that the request went through; thousands of them may be open for days."""
    async with serving() as server:
        connections = [await server.ask_raw(path) for path in PATHS]
        for reader, _ in connections:
            assert b"retry:" in await reader.readuntil(b"retry: 1000\n\n")
        gc.collect()
        assert len(server.streams) == len(PATHS)
        assert not [each for each in gc.get_objects() if isinstance(each, Request | RequestResponseCycle)]
        for _, writer in connections:
            hang_up(writer)


async def test_stream_is_over_as_soon_as_its_client_hangs_up() -> None:
    """Also when that happens before it has begun: it does not keep its place."""
    async with serving() as server:
        for path in PATHS:
            reader, writer = await server.ask_raw(path)
            await reader.readuntil(b"retry: 1000\n\n")
            hang_up(writer)
            await eventually(lambda: not len(server.streams), within_s=4)
        for turns in range(30):
            _, writer = await server.ask_raw(PATHS[1])
            for _ in range(turns):
                await asyncio.sleep(0)
            hang_up(writer)
        await eventually(lambda: not len(server.streams), within_s=4)


async def test_connection_goes_on_behind_a_stream() -> None:
    """With a request that was sent during the stream, and with one that comes later."""
    async with serving() as server:
        job_id = PATHS[2].rpartition("/")[2]
        reader, writer = await server.ask_raw(PATHS[2])
        await reader.readuntil(b"event: job")
        writer.write(request("GET /v1/kinds HTTP/1.1\nhost: h"))
        await asyncio.sleep(0.1)
        await server.api.world.end(server.api.parts, job_id, output='"done"')
        assert b'"finished"' in await reader.readuntil(b"\r\n0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"]}")
        writer.write(request(f"GET {PATHS[2]} HTTP/1.1\nhost: h\naccept: text/event-stream"))
        assert b'"finished"' in await reader.readuntil(b"\r\n0\r\n\r\n")
        assert not len(server.streams)
        writer.close()


async def test_change_is_written_once_for_all_who_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred lists on the screen cost as one."""
    async with serving() as server:
        shown: list[str] = []
        show = server.api.parts.v1.views.job

        def noting(record: JobRecord) -> bytes:
            shown.append(record.job.job_id)
            return show(record)

        monkeypatch.setattr(server.streams, "_show", noting)
        connections = [await server.ask_raw("/v1/jobs") for _ in range(5)]
        followers = server.api.parts.changes._followers  # noqa: SLF001
        await eventually(lambda: len(followers) == len(connections))
        job_id = PATHS[2].rpartition("/")[2]
        server.api.parts.changes.note([job_id])
        await server.api.parts.changes._look()  # noqa: SLF001 - what it does once a second
        for reader, writer in connections:
            assert job_id.encode() in await reader.readuntil(b"}\n\n")
            hang_up(writer)
        assert shown == [job_id]
