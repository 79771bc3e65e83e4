"""Streams from two api-servers: whichever applies an ending, everybody who watches sees it, also over a crash."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hasty.jobs import Ending, Kind, Turn, Way
from hasty.server.local_stack import Child, Stack
from tests.e2e.fake_worker import NAME, Worker, ending_of, working
from tests.e2e.stacks import running, services
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="module")]

WATCHED = 200
GREET = Kind("greet", Way.ASYNC, "v1", "{}", "{}")
STREAM = {"Accept": "text/event-stream"}


def hold(_turn: Turn) -> Ending | None:
    """Run until the test ends it."""
    return None


@dataclass
class World:
    """The system, its worker, and a caller."""

    stack: Stack
    worker: Worker
    http: httpx.AsyncClient

    async def running_jobs(self, count: int) -> list[str]:
        """Make jobs, and wait until the worker runs them."""
        jobs = [{"kind": "greet", "input": n} for n in range(count)]
        results = (await self.http.post("/v1/batches", json={"jobs": jobs})).json()["results"]
        job_ids = [result["job"]["id"] for result in results]
        await eventually(lambda: set(job_ids) <= set(self.worker.running), within_s=30)
        return job_ids

    async def end(self, job_ids: list[str]) -> None:
        """Have the worker end jobs."""
        turns = [self.worker.running[job_id] for job_id in job_ids]
        await self.worker.end(*(ending_of(turn, output='"done"') for turn in turns))


@dataclass
class Watcher:
    """What watches a job as a browser does: it comes back when it is cut off, until it is told that this is all."""

    http: httpx.AsyncClient
    url: str
    seen: list[Any] = field(default_factory=list)
    connected: int = 0
    _last_id: str = ""

    async def watch(self) -> None:
        """Watch to the end."""
        while True:
            try:
                if await self._connect():
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)

    async def _connect(self) -> bool:
        headers = {**STREAM, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        async with self.http.stream("GET", self.url, headers=headers) as response:
            if response.status_code == 200:
                self.connected += 1
                async for line in response.aiter_lines():
                    self._read(line)
            return response.status_code == 204

    def _read(self, line: str) -> None:
        if line.startswith("id: "):
            self._last_id = line.removeprefix("id: ")
        elif line.startswith("data: "):
            self.seen.append(json.loads(line.removeprefix("data: ")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A system whose api-servers both know the kind."""
    async with running(tmp_path_factory.mktemp("streams"), api_servers=2, job_servers=0, environment={}) as stack:
        [nats] = services(stack, "nats")
        limits = httpx.Limits(max_connections=None)
        async with (
            working(nats.url, [GREET], hold) as worker,
            httpx.AsyncClient(base_url=stack.url, timeout=70, limits=limits) as http,
        ):
            for child in services(stack, "api-server"):
                await eventually(lambda child=child: _knows(http, child), within_s=30)  # type: ignore[misc]
            yield World(stack, worker, http)


async def _knows(http: httpx.AsyncClient, child: Child) -> bool:
    kinds = (await http.get(f"http://{child.address}/v1/kinds")).json()["data"]
    return any(kind["name"] == "greet" and kind["workers"] == [NAME] for kind in kinds)


async def test_both_api_servers_show_what_either_applied(world: World) -> None:
    """Each job is watched at both, and one of them applies its ending."""
    job_ids = await world.running_jobs(20)
    watchers = [
        Watcher(world.http, f"http://{child.address}/v1/jobs/{job_id}")
        for child in services(world.stack, "api-server")
        for job_id in job_ids
    ]
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        for watcher in watchers:
            tasks.create_task(watcher.watch())
        await eventually(lambda: all(watcher.seen for watcher in watchers))
        for job_id in job_ids:
            await world.end([job_id])
    assert [watcher.seen[-1]["status"] for watcher in watchers] == ["finished"] * 40
    assert {watcher.connected for watcher in watchers} == {1}


async def test_watchers_see_the_newest_state_after_a_crash(world: World) -> None:
    """Each api-server is killed in turn; what ended meanwhile is seen by everybody who comes back."""
    job_ids = await world.running_jobs(WATCHED)
    watchers = [Watcher(world.http, f"/v1/jobs/{job_id}") for job_id in job_ids]
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        for watcher in watchers:
            tasks.create_task(watcher.watch())
        await eventually(lambda: all(watcher.seen for watcher in watchers), within_s=30)
        for number, half in ((0, job_ids[::2]), (1, job_ids[1::2])):
            before = sum(watcher.connected for watcher in watchers)
            killed = services(world.stack, "api-server")[number].pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            await world.end(half)
            # Those that were cut off have come back, and the server has.
            await eventually(lambda before=before: sum(watcher.connected for watcher in watchers) > before, within_s=30)  # type: ignore[misc]
            await eventually(
                lambda number=number, killed=killed: services(world.stack, "api-server")[number].pid != killed,  # type: ignore[misc]
                within_s=30,
            )
            child = services(world.stack, "api-server")[number]
            await eventually(lambda child=child: _knows(world.http, child), within_s=30)  # type: ignore[misc]
    for watcher in watchers:
        assert watcher.seen[-1] == (await world.http.get(watcher.url)).json()
        revisions = [job["revision"] for job in watcher.seen]
        assert revisions == sorted(revisions)
    assert {watcher.seen[-1]["status"] for watcher in watchers} == {"finished"}
