"""Two versions of a kind side by side, and SIGHUP: what runs ends where it is, and nothing is lost."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.stacks import running, services
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

OLD = """
import asyncio
from hasty import Context, job

@job
async def say(ctx: Context, seconds: float = 0) -> list[object]:
    await asyncio.sleep(seconds)
    return ["old", ctx.run]
"""
NEW = OLD.replace("seconds: float = 0", "seconds: float = 0, loud: bool = False").replace('"old"', '"new"')


@pytest_asyncio.fixture(loop_scope="session")
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Two job-servers, each with code of its own, which is the same at first."""
    work = {}
    for name in ("job-server-1", "job-server-2"):
        code = tmp_path / name / "tasks.py"
        code.parent.mkdir()
        code.write_text(OLD)
        work[name] = {"HASTY_WORK": str(code)}
    async with running(tmp_path / "stack", job_servers=2, environment={}, environment_of=work) as stack:
        yield stack


async def test_new_version_is_loaded_beside_an_old_one(stack: Stack, tmp_path: Path) -> None:
    """Jobs that only the new version understands go to it; those that run end on the old child, in their first run."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=40) as http:
        hasty = V1(http)

        async def kind() -> dict[str, list[str]]:
            found = (await http.get("/v1/kinds")).json()["data"]
            return next((each for each in found if each["name"] == "say"), {"workers": [], "versions": []})

        async def both() -> bool:
            return len((await kind())["workers"]) == 2

        async def two_versions() -> bool:
            return len((await kind())["versions"]) == 2

        await eventually(both, within_s=60)
        refused = await hasty.ask("say", input={"loud": True})
        assert refused.status_code == 422
        before, on = [], set[str]()
        while len(on) < 2:
            # One worker may take many before the other one takes its first.
            before += [await hasty.submit("say", seconds=12) for _ in range(10)]
            on |= {(await hasty.running(job["id"]))["worker"] for job in before[-10:]}
            assert len(before) <= 100

        (tmp_path / "job-server-1" / "tasks.py").write_text(NEW)
        first = services(stack, "job-server")[0]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGHUP)
        await eventually(two_versions, within_s=60)
        loud = [await hasty.submit("say", loud=True) for _ in range(10)]
        plain = [await hasty.submit("say") for _ in range(10)]

        # What the old version hands back waits longer each time, and may come back to it several times.
        assert {tuple((await hasty.ended(job["id"], within_s=300))["output"][:1]) for job in loud} == {("new",)}
        assert {(await hasty.ended(job["id"]))["status"] for job in plain} == {"finished"}
        ended = [await hasty.ended(job["id"]) for job in before]
        assert [job["output"] for job in ended] == [["old", 1]] * len(before)
        assert len({job["worker"] for job in ended}) == 2
