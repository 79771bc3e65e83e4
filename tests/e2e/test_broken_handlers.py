"""Handlers that cannot be loaded: their author is told, nothing else stops, and a correction is enough."""

import json
from pathlib import Path

import httpx
import pytest

from hasty.server.local_stack import Child, Stack, StackConfig
from tests.e2e.client import Hasty
from tests.e2e.conftest import QUICK
from tests.e2e.stacks import services, tracebacks
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

BROKEN = "from hasty import job\n\nimport nothing_of_this_name\n"
CORRECTED = "from hasty import job\n\n@job\ndef say() -> str:\n    return 'corrected'\n"


async def _readiness(ports: httpx.AsyncClient, job_server: Child) -> tuple[int, str, str]:
    """Status of HTTP, the word for it, and what is said of the handlers."""
    response = await ports.get(f"http://{job_server.address}/readyz")
    return response.status_code, response.json()["status"], response.json()["checks"]["handlers"]


async def test_module_that_cannot_be_imported_stops_nothing_else(tmp_path: Path, ports: httpx.AsyncClient) -> None:
    """One error in the log with the author's own traceback; the built-in kind is served; a correction is loaded."""
    work = tmp_path / "tasks.py"
    work.write_text(BROKEN)
    config = StackConfig(folder=tmp_path / "stack", environment={**QUICK, "HASTY_WORK": str(work)})
    async with Stack.running(config) as stack, Hasty.at(stack.url) as hasty:
        [job_server] = services(stack, "job-server")

        async def degraded() -> bool:
            return (await _readiness(ports, job_server))[1] == "degraded"

        await eventually(degraded, within_s=30)
        status, _, said = await _readiness(ports, job_server)
        assert status == 200
        assert said == f"{work} cannot be loaded: ModuleNotFoundError: No module named 'nothing_of_this_name'"
        await hasty.finished(await hasty.create_many(5))

        work.write_text(CORRECTED)

        async def ready() -> bool:
            return await _readiness(ports, job_server) == (200, "ready", "ok")

        await eventually(ready, within_s=30)
        v1 = V1(hasty.http)
        await eventually(lambda: _serves(hasty.http, "say"), within_s=30)
        assert (await v1.submit("say", wait=15))["output"] == "corrected"
        await hasty.finished(await hasty.create_many(5))
        [error] = [json.loads(line) for line in _lines(job_server) if '"handlers_not_loaded"' in line]
        assert (error["level"], error["reason"]) == ("error", said)
        assert f'File "{work}", line 3, in <module>\n    import nothing_of_this_name\n' in error["traceback"]
        assert len(tracebacks(stack)) == 1


async def _serves(http: httpx.AsyncClient, kind: str) -> bool:
    kinds = (await http.get("/v1/kinds")).json()["data"]
    return any(each["name"] == kind and each["workers"] for each in kinds)


def _lines(child: Child) -> list[str]:
    return child.log.read_text().splitlines()
