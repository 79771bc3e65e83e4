"""Every query uses an index: what the stores really send is explained by a real server."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest

from api_server.domain import Job, Lease, Outcome, Run, Status
from job_server import domain as work

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from api_server.store import JobStore
    from job_server.store import OutcomeStore

pytestmark = pytest.mark.asyncio(loop_scope="session")

OWNER = "an api-server"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
JOBS = 2_000
RUNS = 200


def listen(store: JobStore | OutcomeStore, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the commands that a store sends from now on."""
    sent: list[dict[str, Any]] = []
    send = store._command  # noqa: SLF001 - the one place through which every command goes

    async def send_and_tell(command: dict[str, Any]) -> dict[str, Any]:
        sent.append(copy.deepcopy(command))
        return await send(command)

    monkeypatch.setattr(store, "_command", send_and_tell)
    return sent


def queries(command: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The queries in a command: collection, filter, and options of a find that picks the same documents."""
    if "find" in command:
        yield command["find"], command["filter"], {key: command[key] for key in ("sort", "limit") if key in command}
    if "aggregate" in command:
        yield command["aggregate"], command["pipeline"][0]["$match"], {}
    if "update" in command:
        for update in command["updates"]:
            yield command["update"], update["q"], {}
    # A delete, of one among the few leases, is left out: beside `_id` it has a condition, with which SecantusDB scans.


def stages(plan: Any) -> Iterator[str]:
    """All stages of a plan, however deep."""
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan["stage"]
        for part in plan.values():
            yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


def explain(database: pymongo.database.Database[Any], command: Mapping[str, Any]) -> list[tuple[set[str], int]]:
    """For each query of a command: the stages of its plan, and how many documents it looks at."""
    found = []
    for collection, criteria, options in queries(command):
        answer = database.command(
            {"explain": {"find": collection, "filter": criteria, **options}, "verbosity": "executionStats"}
        )
        plan = answer["queryPlanner"]["winningPlan"]
        found.append((set(stages(plan)), answer["executionStats"]["totalDocsExamined"]))
    return found


def new_job(object_id: str, number: int = 1) -> Job:
    """A job as the service makes it."""
    return Job(Run(object_id, number, str(uuid.uuid4()), NOON))


async def test_every_query_of_the_api_server_uses_an_index(
    real_jobs: JobStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And looks at what it returns, not at what there is."""
    jobs = [new_job(f"object {number}") for number in range(JOBS)]
    for start in range(0, JOBS, 500):
        await real_jobs.insert(jobs[start : start + 500], NOON + timedelta(hours=1), OWNER)
    long = [new_job("long", number) for number in range(1, RUNS + 1)]
    await real_jobs.insert(long, NOON + timedelta(hours=1), OWNER)
    await real_jobs.insert([new_job("due")], NOON, OWNER)
    assert (await real_jobs.latest_runs(["long"]))["long"] == long[-1].run

    sent = listen(real_jobs, monkeypatch)
    some = [job.run.job_id for job in jobs[:3]]
    assert len(await real_jobs.get(some)) == 3
    assert len(await real_jobs.due(NOON, 10)) == 1
    assert len(await real_jobs.latest_runs([job.run.object_id for job in jobs[:3]])) == 3
    # The second time, an object with many runs is looked at from where it was known.
    assert (await real_jobs.latest_runs(["long"]))["long"] == long[-1].run
    await real_jobs.mark_dispatched(some, 1, NOON)
    await real_jobs.apply(Status.FINISHED, [Outcome(job_id, Status.FINISHED, 1) for job_id in some], NOON)
    await real_jobs.make_due(some, NOON)
    for number in range(100):
        await real_jobs.renew(Lease(f"api-server {number}", NOON + timedelta(seconds=number), NOON))
    assert len(await real_jobs.abandoned(NOON + timedelta(seconds=2))) == 2
    lease = Lease("api-server 0", NOON, NOON + timedelta(hours=2))
    await real_jobs.insert([replace(new_job("late"), dispatches=1)], NOON + timedelta(hours=2), lease.owner)
    assert await real_jobs.take_over(lease, NOON, NOON + timedelta(hours=3)) == 1
    await real_jobs.forget(lease)
    await real_jobs.make_all_due(NOON + timedelta(minutes=59, seconds=59.999))

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        plans = {str(command)[:200]: explain(client.get_default_database(), command) for command in sent}
    assert len([plan for found in plans.values() for plan in found]) >= 7
    for command, found in plans.items():
        for stages_of_plan, examined in found:
            assert "COLLSCAN" not in stages_of_plan, command
            # What makes everything due has to look at everything that is unfinished.
            if "'$gt'" not in command:
                assert examined <= 3, (command, examined)


async def test_every_query_of_the_job_server_uses_an_index(
    real_outcomes: OutcomeStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only ever asks for ids."""
    outcomes = [work.Outcome(work.Job(str(uuid.uuid4()), "x", 1), work.Ending.FINISHED, 1, 1) for _ in range(JOBS)]
    for start in range(0, JOBS, 500):
        await real_outcomes.record(outcomes[start : start + 500])

    sent = listen(real_outcomes, monkeypatch)
    assert len(await real_outcomes.recorded([outcome.job.job_id for outcome in outcomes[:3]])) == 3
    assert len(await real_outcomes.record(outcomes[:2])) == 2

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        found = [plan for command in sent for plan in explain(client.get_default_database(), command)]
    assert len(found) == 2
    for stages_of_plan, examined in found:
        assert "COLLSCAN" not in stages_of_plan
        assert examined <= 3
