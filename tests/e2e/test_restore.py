"""An older copy of both databases is put back, while the broker knows what happened since."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from hasty.server.local_stack.folder import data_folder
from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

WORK = Path(__file__).with_name("work.py")
ENVIRONMENT = {"HASTY_WORK": str(WORK), "HASTY_ACK_WAIT_S": "3", "HASTY_OVERDUE_S": "4", "HASTY_SHUTDOWN_GRACE_S": "1"}
DATABASES = ("api-mongo", "job-mongo")


@asynccontextmanager
async def hasty(folder: Path) -> AsyncIterator[V1]:
    """A system with its data in this folder, and a caller."""
    async with (
        running(folder, environment=ENVIRONMENT) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=40) as http,
    ):

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "greet" and kind["workers"] for kind in kinds)

        await eventually(announced, within_s=30)
        yield V1(http)


async def test_older_copy_of_the_databases_is_restored(tmp_path: Path) -> None:
    """What it says is unfinished is done once more, and the handler can see it; later jobs are unknown."""
    folder, copies = tmp_path / "stack", tmp_path / "copies"
    async with hasty(folder) as before:
        done = await before.submit("greet", wait=20, name="Ada")
        held = [await before.submit("long_async", seconds=8) for _ in range(3)]
        await asyncio.gather(*(before.running(job["id"]) for job in held))
        delayed = (await before.ask("greet", input={"name": "Bob"}, delay_s=20)).json()
    for name in DATABASES:
        shutil.copytree(data_folder(folder, name), copies / name)
    async with hasty(folder) as since:
        ended = [await since.ended(job["id"]) for job in (*held, delayed)]
        later = await since.submit("greet", wait=20, name="Eve")
    assert {job["status"] for job in (*ended, later)} == {"finished"}

    for name in DATABASES:
        shutil.rmtree(data_folder(folder, name))
        shutil.copytree(copies / name, data_folder(folder, name))
    async with hasty(folder) as restored:
        again = [await restored.ended(job["id"]) for job in held]
        assert {job["status"] for job in again} == {"finished"}
        assert min(job["output"] for job in again) > 1, "ctx.run"
        assert (await restored.ended(delayed["id"]))["output"] == "hello Bob"
        assert (await restored.job(done["id"]))["output"] == "hello Ada"
        assert (await restored.http.get(f"/v1/jobs/{later['id']}")).status_code == 404
        assert (await restored.submit("greet", wait=20, name="Zoe"))["output"] == "hello Zoe"
