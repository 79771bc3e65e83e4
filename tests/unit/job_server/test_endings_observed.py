"""What operators and chaos runs see of a job-server's turns: metrics, crash points, logs."""

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from hasty.jobs import Status
from hasty.server.runtime.crash_points import CrashPoint
from tests.eventually import eventually
from tests.fakes import Fate
from tests.unit.job_server.world import REPORT, Worker, World


def counted(name: str, **labels: str) -> float:
    """A counter's value."""
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (Status.FINISHED, "finished"),
        (Status.FAILED, "failed"),
        (Status.CANCELLED, "cancelled"),
        (Status.PROCESSING, "again"),
    ],
)
async def test_own_endings_are_counted_by_status(world: World, worker: Worker, status: Status, label: str) -> None:
    """What another one has recorded counts as already ended."""
    names = [("hasty_jobs_ended_total", {"status": label}), ("hasty_jobs_already_ended_total", {})]
    turn = world.post()
    heir = world.worker()
    await worker.take()
    world.deliver_all_again()
    await heir.take()
    before = [counted(name, **labels) for name, labels in names]

    worker.hall.end(turn.turn_id, status, replace(REPORT, run=1))
    await worker.idle()
    assert [counted(name, **labels) for name, labels in names] == [before[0] + 1, before[1]]

    heir.hall.end(turn.turn_id, Status.FINISHED, replace(REPORT, run=2))
    await heir.idle()
    assert [counted(name, **labels) for name, labels in names] == [before[0] + 1, before[1] + 1]


async def test_crash_points_are_passed_in_order(world: World, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its place: chaos runs name them."""
    passed: list[CrashPoint] = []
    for module in ("job_server.service", "job_server.recording"):
        monkeypatch.setattr(f"{module}.crash_point", passed.append)

    job_id = world.create()
    await worker.take()
    worker.workshop.end(job_id)
    await worker.idle()

    assert passed == [
        CrashPoint.JOB_AFTER_FETCH,
        CrashPoint.JOB_MID_WORK,
        CrashPoint.JOB_BEFORE_RECORD,
        CrashPoint.JOB_AFTER_RECORD,
        CrashPoint.JOB_AFTER_PUBLISH,
        CrashPoint.JOB_AFTER_ACK,
    ]


async def test_each_job_is_logged_and_counted_at_its_start_and_end(world: World) -> None:
    """For whoever has set the level to debug."""
    started = counted("hasty_jobs_started_total")
    with capture_logs() as logs:
        worker = world.worker()
        job_id = world.create()
        await worker.take()
        worker.workshop.end(job_id, Status.CANCELLED, 46)
        await worker.idle()
    assert counted("hasty_jobs_started_total") == started + 1
    job = {"job_id": job_id, "object_id": "x", "attempt": 1, "log_level": "debug", "logger_name": "job_server.service"}
    assert logs == [
        {"event": "job_started", **job},
        {"event": "job_ended", "status": "cancelled", "duration_s": 46, **job},
    ]


async def test_outages_are_logged_with_their_reasons(world: World, worker: Worker) -> None:
    """Once for turns that cannot begin, once for endings that wait for the broker."""
    job_id = world.create(number=1)
    await worker.take()
    with capture_logs() as logs:
        world.broker.fate = lambda _: Fate.LOST
        worker.workshop.end(job_id)
        await eventually(lambda: any(line["event"] == "endings_wait" for line in logs))
        world.broker.fate = lambda _: Fate.STORED
        await worker.idle()
        world.store.up = False
        world.create(number=2)
        await worker.take()
    waiting = [line for line in logs if line["event"] == "endings_wait"]
    assert {(line["log_level"], line["count"], line["reason"]) for line in waiting} == {
        ("warning", 1, "the broker did not confirm every ending")
    }
    [line] = [line for line in logs if line["event"] == "jobs_not_started"]
    assert (line["log_level"], line["count"]) == ("warning", 1)
    assert line["reason"]
