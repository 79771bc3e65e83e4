"""The overview's verdict and rates on a running system: two api-servers, and a worker that serves what a test says."""

import re

import httpx
import pytest

from hasty.jobs import Ending, Kind, Turn, Way
from hasty.server.local_stack import Stack
from tests.e2e.fake_worker import Worker, ending_of, working
from tests.e2e.stacks import running, services
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="module")]

GREET = Kind("greet", Way.ASYNC, "v1", "{}", "{}")
RESIZE = Kind("resize", Way.ASYNC, "v1", "{}", "{}")


def hang(_turn: Turn) -> Ending | None:
    """Run until it is cancelled."""
    return None


async def judged(stack: Stack, what: str) -> None:
    """Both api-servers give this verdict, or will soon."""

    async def shown() -> bool:
        async with httpx.AsyncClient() as http:
            for child in services(stack, "api-server"):
                verdict = (await http.get(f"http://{child.address}/v1/overview")).json()["verdict"]
                assert re.fullmatch(what, verdict), verdict
        return True

    await eventually(shown, within_s=30)


async def test_verdict_names_the_kind_that_no_worker_serves(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Though a worker is heard; no longer once the kind is served again; and that none is heard at all."""
    folder = tmp_path_factory.mktemp("verdict")
    async with running(folder, api_servers=2, job_servers=0, environment={}) as stack:
        [nats] = [child for child in stack.children.values() if child.role == "nats"]
        async with (
            working(nats.url, [GREET, RESIZE], hang) as worker,
            httpx.AsyncClient(base_url=stack.url, timeout=70) as http,
        ):
            await judged(stack, "All is well: .*, nothing waits")
            await follow(stack, worker, V1(http))


async def follow(stack: Stack, worker: Worker, v1: V1) -> None:
    """Post a job of each kind, end one, and have the worker serve both, one, both and none of the kinds."""
    await eventually(lambda: knows(stack, {"greet", "resize"}))
    for kind in worker.kinds:
        await v1.submit(kind)
    await judged(stack, "All is well: .*, 2 jobs under way")
    await rated(stack, ended=False)
    await eventually(lambda: len(worker.seen) == len(worker.kinds))
    [greeting] = [turn for turn in worker.seen if turn.task and turn.task.kind == "greet"]
    await worker.end(ending_of(greeting))
    await rated(stack, ended=True)
    kinds, worker.kinds = worker.kinds, {"greet": GREET}
    await judged(stack, "No worker serves resize: 1 job waits")
    worker.kinds = kinds
    await judged(stack, "All is well: .*, 1 job under way")
    worker.muted = True
    await judged(stack, "No worker is heard: 1 job waits")


async def rated(stack: Stack, *, ended: bool) -> None:
    """Both api-servers say whether jobs ended, whichever of them applied the ending, or will soon."""

    async def shown() -> bool:
        async with httpx.AsyncClient() as http:
            for child in services(stack, "api-server"):
                rate = (await http.get(f"http://{child.address}/v1/overview")).json()["ended_per_s"]
                assert rate is not None
                assert (rate > 0) is ended, rate
        return True

    await eventually(shown, within_s=30)


async def knows(stack: Stack, names: set[str]) -> bool:
    """Whether both api-servers know that these kinds are served: one of them took the announcements."""
    async with httpx.AsyncClient() as http:
        for child in services(stack, "api-server"):
            kinds = (await http.get(f"http://{child.address}/v1/kinds")).json()["data"]
            assert {kind["name"] for kind in kinds if kind["workers"]} == names
    return True
