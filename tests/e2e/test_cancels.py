"""Cancellations at every moment of a job: while it waits for a place, between attempts, and at its very end."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.stacks import running
from tests.e2e.v1 import V1
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.own_stack]

WORK = Path(__file__).with_name("work.py")
WORKERS = 2
RACES = 120
TERMINAL = {"finished", "failed", "cancelled"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[V1]:
    """A caller of two api-servers and two job-servers, each of which has one place for processes."""
    environment = {"HASTY_WORK": str(WORK), "HASTY_PROCESSES": "1"}
    folder = tmp_path_factory.mktemp("cancels")
    limits = httpx.Limits(max_connections=RACES)
    async with (
        running(folder, api_servers=2, job_servers=WORKERS, environment=environment) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=70, limits=limits) as http,
    ):

        async def served() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "long_async" and len(kind["workers"]) == WORKERS for kind in kinds)

        await eventually(served, within_s=60)
        yield V1(http)


async def events_of(hasty: V1, job_id: str) -> list[str]:
    """What has happened to a job."""
    timeline = (await hasty.http.get(f"/v1/jobs/{job_id}/timeline")).json()["data"]
    return [event["event"] for event in timeline]


async def test_job_that_waits_for_a_place_never_begins(hasty: V1) -> None:
    """It is cancelled at once, though every place is taken; those that have the places go on."""
    busy = [await hasty.submit("long_process", seconds=60) for _ in range(WORKERS)]
    await asyncio.gather(*(hasty.running(job["id"]) for job in busy))
    waiting = [await hasty.submit("long_process", seconds=0) for _ in range(3)]
    assert {(await hasty.job(job["id"]))["phase"] for job in waiting} == {"queued"}

    answers = [await hasty.cancel(job["id"]) for job in waiting]
    ended = [await hasty.ended(job["id"], within_s=30) for job in waiting]

    assert {answer.status_code for answer in answers} <= {200, 202}
    assert {(job["status"], job["started_at"], job["output"]) for job in ended} == {("cancelled", None, None)}
    assert [await events_of(hasty, job["id"]) for job in waiting] == [["created", "cancel_requested", "cancelled"]] * 3
    assert {(await hasty.job(job["id"]))["phase"] for job in busy} == {"running"}
    for job in busy:
        await hasty.cancel(job["id"])
    assert {(await hasty.ended(job["id"]))["status"] for job in busy} == {"cancelled"}


async def test_job_between_two_attempts_is_cancelled(hasty: V1) -> None:
    """At once, without waiting for the next attempt, which never begins."""
    job = await hasty.submit("doomed")

    async def retrying() -> bool:
        return bool((await hasty.job(job["id"]))["phase"] == "retrying")

    await eventually(retrying, within_s=30)
    assert (await hasty.cancel(job["id"])).status_code in {200, 202}

    ended = await hasty.ended(job["id"], within_s=30)
    assert (ended["status"], ended["attempts"], ended["output"]) == ("cancelled", 3, None)
    assert await events_of(hasty, job["id"]) == [
        *("created", "started", "attempt_failed"),
        *("cancel_requested", "cancelled"),
    ]


async def _raced(hasty: V1, seconds: float, after_s: float) -> tuple[httpx.Response, dict[str, Any]]:
    """Cancel a job so long after it was posted: the answer to that, and the job in the end."""
    posted = await hasty.ask("long_async", input={"seconds": seconds}, labels=["raced"])
    job_id = posted.json()["id"]
    await hasty.http.get(f"/v1/jobs/{job_id}", params={"wait": round(after_s, 3)})
    answer = await hasty.cancel(job_id)
    return answer, await hasty.ended(job_id)


async def test_cancel_that_races_the_outcome_changes_nothing_after_it(hasty: V1) -> None:
    """Each job ends once, by its handler or by the cancellation; answers, list and timeline agree on which it was."""
    chance = random.Random(7)
    # However busy the machine is, some are cancelled long before their end, and some after it.
    moments = [(60.0, chance.random()) for _ in range(5)] + [(0.0, 60.0) for _ in range(5)]
    moments += [(chance.random() / 2, chance.random()) for _ in range(RACES)]
    raced = await asyncio.gather(*(_raced(hasty, *moment) for moment in moments))

    ended = {job["id"]: job for _, job in raced}
    for answer, job in raced:
        told = answer.json()
        assert (told["id"], answer.status_code) == (job["id"], 200 if told["status"] in TERMINAL else 202)
        assert told["status"] in {"processing", job["status"]}
        assert (job["status"], job["output"]) in {("finished", 1), ("cancelled", None)}
    assert {job["status"] for job in ended.values()} == {"finished", "cancelled"}
    assert {answer.status_code for answer, _ in raced} == {200, 202}
    for job_id, job in ended.items():
        again = await hasty.cancel(job_id)
        assert (again.status_code, again.json()) == (200, job)
        assert [event for event in await events_of(hasty, job_id) if event in TERMINAL] == [job["status"]]
    for status in ("finished", "cancelled", "failed", "processing"):
        found = await _listed(hasty, status)
        assert found == {job_id: job for job_id, job in ended.items() if job["status"] == status}


async def _listed(hasty: V1, status: str) -> dict[str, dict[str, Any]]:
    query = {"label": "raced", "status": status, "limit": "100"}
    found: dict[str, dict[str, Any]] = {}
    while True:
        page = (await hasty.http.get("/v1/jobs", params=query)).json()
        found |= {job["id"]: job for job in page["data"]}
        if page["next"] is None:
            return found
        query["after"] = page["next"]
