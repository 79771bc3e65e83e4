"""A disk that was full: what it broke is restarted by itself, and no accepted job is lost."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from hasty.server.local_stack import Child, Stack, StackConfig
from hasty.server.local_stack.resources import CODE
from tests.chaos import facts
from tests.chaos.disks import CannotMount, Disk
from tests.e2e.client import Hasty, new_object_id
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

ENVIRONMENT = {
    "HASTY_ACK_WAIT_S": "3",
    "HASTY_OVERDUE_S": "6",
    "HASTY_JOB_SLEEP_MIN_S": "0.1",
    "HASTY_JOB_SLEEP_MAX_S": "0.3",
    "HASTY_JOB_TIMEOUT_S": "2",
}


@asynccontextmanager
async def disk_at(folder: Path) -> AsyncIterator[Disk]:
    """A disk of its own at `folder`."""
    try:
        disk = await Disk.mounted(folder)
    except CannotMount as error:
        pytest.skip(str(error))
    try:
        yield disk
    finally:
        await disk.unmount()


GIVEN_UP = ("WT_PANIC", "not authorized")
"""What a database says whose storage engine has given up: then it cannot read its users either."""


@asynccontextmanager
async def stack_on_disk(folder: Path, lines: list[str]) -> AsyncIterator[tuple[Stack, Disk, Hasty]]:
    """A stack whose data, logs and stack.json are on one disk of their own, and a caller; `lines` gets what it says."""
    async with disk_at(folder) as disk:
        config = StackConfig(folder=folder, environment=ENVIRONMENT)
        async with Stack.running(config, lines.append) as stack, Hasty.at(stack.url) as caller:
            await caller.finished(await caller.create_many(5), within_s=20)
            yield stack, disk, caller


@asynccontextmanager
async def ballast_in(database: Child, name: str) -> AsyncIterator[AsyncCollection[dict[str, Any]]]:
    """A collection that exists, because a full disk refuses a new one without any further harm."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        f"{database.url}&directConnection=true&retryWrites=false", socketTimeoutMS=5000
    )
    async with client:
        ballast = client.get_database(name).get_collection("ballast", write_concern=WriteConcern(w=1, j=True))
        await ballast.insert_one({})
        yield ballast


async def write_until_it_panics(ballast: AsyncCollection[dict[str, Any]]) -> None:
    """Write to a full disk until the storage engine has given up: then only a restart helps."""
    last = "nothing was refused"
    for _ in range(128):
        try:
            await ballast.insert_many([{"ballast": os.urandom(2**20)} for _ in range(4)])
        except PyMongoError as error:
            last = str(error)
            if any(text in last for text in GIVEN_UP):
                return
    raise AssertionError(f"512 MiB were written to a full disk, or refused: {last}")


async def test_stack_heals_itself_after_a_full_disk(tmp_path: Path) -> None:
    """Broker and databases are restarted once there is space, and every accepted job ends."""
    lines: list[str] = []
    async with stack_on_disk(tmp_path, lines) as (stack, disk, caller), AsyncExitStack() as opened:
        broker, *databases = (stack.children[name] for name in ("nats", "api-mongo", "job-mongo"))
        lives = {child.name: child.pid for child in stack.children.values()}
        # These are accepted, and still to be stored by the broker, while the disk is full.
        api = await opened.enter_async_context(ballast_in(databases[0], "hasty_api"))
        job = await opened.enter_async_context(ballast_in(databases[1], "hasty_job"))
        posting = asyncio.gather(*(caller.ask(new_object_id()) for _ in range(200)))
        await disk.fill()
        accepted = [answer.json()["message"]["job_id"] for answer in await posting if answer.status_code == 201]
        await write_until_it_panics(job)
        await publish_until_it_fails(stack)
        api_server, job_server = stack.children["api-server-1"], stack.children["job-server-1"]
        await eventually(says(api_server, disk="must stay free"), within_s=20)
        await write_until_it_panics(api)
        await eventually(says(api_server, database=GIVEN_UP), within_s=20)
        await eventually(says(job_server, database=GIVEN_UP), within_s=20)
        assert {name: child.pid for name, child in stack.children.items()} == lives
        await disk.free()

        await eventually(lambda: all(child.restarts == 1 for child in (broker, *databases)), within_s=60)
        for child in stack.children.values():
            await child.ready(60)
        accepted.append(await eventually(caller.create, within_s=30))
        await caller.finished(accepted, within_s=60)
        for child in (broker, *databases):
            assert any(line.startswith(f"{child.name} stores nothing (") and "restarting it" in line for line in lines)
        services = [child for child in stack.children.values() if child not in (broker, *databases)]
        assert {child.name: child.pid for child in services} == {child.name: lives[child.name] for child in services}


def says(service: Child, **expected: str | tuple[str, ...]) -> Callable[[], Awaitable[bool]]:
    """A fact: each of these checks of a service's /readyz says this, or one of these."""

    async def said() -> bool:
        async with httpx.AsyncClient(timeout=10) as http:
            answer = await http.get(f"http://{service.address}/readyz")
        checks = answer.json()["checks"]
        for name, texts in expected.items():
            assert any(text in checks[name] for text in ((texts,) if isinstance(texts, str) else texts)), checks
        return True

    return said


async def publish_until_it_fails(stack: Stack) -> None:
    """Have the broker write to a full disk until it has failed: what it is sent means nothing to anybody."""
    broker = stack.children["nats"]
    client = await facts.connected(stack)
    try:

        async def failed() -> bool:
            await client.publish("job:finished", os.urandom(4096))
            await client.flush()
            return "write error" in (await broker.answers() or "")

        await eventually(failed, within_s=30)
    finally:
        await client.close()


async def test_new_jobs_are_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    """With 503 and the reason; jobs that exist can be read and end, and nothing has to be restarted."""
    async with stack_on_disk(tmp_path, []) as (stack, disk, caller):
        lives = {name: child.pid for name, child in stack.children.items()}
        job_ids = await caller.create_many(5)
        await disk.leave(200)

        async def refusal() -> httpx.Response:
            answer = await caller.ask(new_object_id())
            assert answer.status_code == 503
            return answer

        answer = await eventually(refusal)
        assert answer.json() == {"message": "there is too little disk space for new jobs, please try again"}
        assert int(answer.headers["retry-after"]) >= 1
        await caller.finished(job_ids, within_s=20)
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"http://{stack.children['api-server-1'].address}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "MiB left, and 256 MiB must stay free" in ready.json()["checks"]["disk"]
        await disk.free()
        await caller.finished([await eventually(caller.create)], within_s=20)
        assert {name: child.pid for name, child in stack.children.items()} == lives


async def test_too_small_disk_is_one_line_with_the_needed_size(tmp_path: Path) -> None:
    """At once, with exit code 1."""
    async with disk_at(tmp_path) as disk:
        await disk.leave(300)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hasty", "up", "--folder", str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=CODE,
            env={**os.environ, "HASTY_HTTP_PORT": "18999"},
        )
        async with asyncio.timeout(50):
            output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert (process.returncode, len(lines)) == (1, 1), lines
    assert "MiB free, and 2304 MiB are needed" in lines[0]
