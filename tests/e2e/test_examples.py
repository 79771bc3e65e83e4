"""Every example on a running system, each with a job-server of its own; and the demo."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually
from tests.loopback import unused_port

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = ("thumbnails", "web_hook", "shell_command", "fastapi_app")
KINDS = {"thumbnail", "deliver", "folder_size", "report"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A job-server for each example."""
    work = {
        f"job-server-{number}": {"HASTY_WORK": str(EXAMPLES / folder / "tasks.py")}
        for number, folder in enumerate(FOLDERS, start=1)
    }
    async with running(
        tmp_path_factory.mktemp("examples"), job_servers=len(work), environment={}, environment_of=work
    ) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(stack: Stack) -> AsyncIterator[V1]:
    """A caller of a system that knows the kinds of all examples."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=40) as http:

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return {kind["name"] for kind in kinds if kind["workers"]} >= KINDS

        await eventually(announced, within_s=60)
        yield V1(http)


async def outcome(hasty: V1, kind: str, **values: Any) -> dict[str, Any]:
    """Post a job and wait for its outcome."""
    job = await hasty.submit(kind, **values)
    return await hasty.ended(job["id"], within_s=120)


async def test_thumbnail_is_the_mean_of_its_pixels(hasty: V1, tmp_path: Path) -> None:
    """Half as wide, half as high; what is no picture is not tried again."""
    source = tmp_path / "picture.ppm"
    source.write_bytes(b"P6\n4 2\n255\n" + bytes([10, 0, 200] * 2 + [30, 90, 0] * 2) * 2)

    job = await outcome(hasty, "thumbnail", source=str(source), width=2)

    target = tmp_path / "picture-2.ppm"
    assert job["output"] == {"file": str(target), "width": 2, "height": 1}
    assert target.read_bytes() == b"P6\n2 1\n255\n" + bytes([10, 0, 200, 30, 90, 0])
    names = [path.name for path in tmp_path.iterdir()]  # noqa: ASYNC240 - a folder of two files
    assert sorted(names) == ["picture-2.ppm", "picture.ppm"]
    job = await outcome(hasty, "thumbnail", source=str(tmp_path / "none.ppm"), width=2)
    assert (job["status"], job["error"]["reason"]) == ("failed", "failed_by_handler")


@asynccontextmanager
async def hook(answers: list[bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody else's web hook, which gives these answers, one after the other; what it was sent."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        seen.append(head + body.decode())
        writer.write(b"HTTP/1.1 " + answers[len(seen) - 1] + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", seen


async def test_web_hook_is_delivered_after_retries(hasty: V1) -> None:
    """With one idempotency key; to come later, as the hook asks, costs no attempt."""
    async with hook([b"503 Busy\r\nretry-after: 1", b"500 Oops", b"204 Thanks"]) as (url, seen):
        job = await outcome(hasty, "deliver", url=url, payload={"order": 7})

    assert (job["status"], job["output"], job["attempt"]) == ("finished", 204, 2)
    assert len({re.search(r"idempotency-key: (\S+)", text, re.IGNORECASE)[1] for text in seen}) == 1  # type: ignore[index]
    assert all(text.endswith('{"order": 7}') for text in seen)


async def test_web_hook_that_refuses_is_not_tried_again(hasty: V1) -> None:
    """A client error is final."""
    async with hook([b"410 Gone"]) as (url, seen):
        job = await outcome(hasty, "deliver", url=url, payload={})

    assert (job["status"], job["error"]["reason"], len(seen)) == ("failed", "failed_by_handler", 1)


async def test_shell_script_measures_a_folder(hasty: V1, tmp_path: Path) -> None:
    """Its exit code 65 is final."""
    (tmp_path / "a file").write_text("x" * 5000)
    job = await outcome(hasty, "folder_size", path=str(tmp_path))
    assert job["output"]["files"] == 1
    assert job["output"]["kilobytes"] >= 4

    job = await outcome(hasty, "folder_size", path="/no/such/folder")
    assert job["error"]["message"] == "there is no folder /no/such/folder"


async def test_fastapi_application_streams_a_report(hasty: V1, stack: Stack) -> None:
    """It answers at once, tells how far it is, and ends with the report."""
    port = unused_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES / "fastapi_app"), "--port", str(port), "app:app"),
        env={**os.environ, "HASTY_URL": stack.url},
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as app:
            answer = await eventually(lambda: app.post("/reports", json={"pages": 15}), within_s=30)
            assert answer.status_code == 202
            stream = await app.get(answer.json()["events"])
            assert (await app.get("/reports/nobody/events")).status_code == 404
    finally:
        process.terminate()
        await process.wait()

    told = [json.loads(line.removeprefix("data: ")) for line in stream.text.splitlines() if line]
    assert told[-1] == {"status": "finished", "done": 1.0, "report": {"words": 3750}}
    assert [one["done"] for one in told] == sorted(one["done"] for one in told)
    assert len(told) > 1
    assert (await hasty.job(answer.json()["id"]))["status"] == "finished"


async def test_demo_loses_nothing() -> None:
    """A job-server is killed with its jobs, and every one of them ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "demo" / "__main__.py")), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    last = out.decode().splitlines()[-1]
    moved = re.fullmatch(r"200 accepted, 200 ended, 0 lost, (\d+) moved", last)
    assert moved, out.decode()
    assert int(moved[1]) > 0
    assert process.returncode == 0
