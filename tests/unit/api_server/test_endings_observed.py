"""What operators and chaos runs see of an api-server's dispatches and endings: metrics, crash points, logs."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from api_server.errors import TooSoonError
from hasty.jobs import Ending, Report, Status, Task, Turn
from hasty.server.messaging.events import announcement
from hasty.server.messaging.topology import JOB_CANCEL
from hasty.server.runtime.crash_points import CrashPoint
from tests.fakes import Fate
from tests.unit.api_server.world import ApiServer, World, ending


def counted(name: str, **labels: str) -> float:
    """A counter's value."""
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.mark.parametrize(
    ("status", "label"), [(Status.FINISHED, "finished"), (Status.CANCELLED, "cancelled"), (Status.PROCESSING, "again")]
)
async def test_applied_endings_are_counted_by_status(
    world: World, api_server: ApiServer, status: Status, label: str
) -> None:
    """Each once, however often it comes."""
    job_id = await api_server.submit("x")
    body = ending(job_id, status)
    if status is Status.PROCESSING:
        report = Report("a worker", "v1", 1, 2, delay_s=3)
        body = announcement(Ending(Turn(job_id, "x", 1, 1, Task("greet", "{}")), status, 1, report=report)).body
        world.store.jobs[job_id] = replace(world.store.jobs[job_id], task=Task("greet", "{}"))
    before = counted("hasty_endings_applied_total", status=label)

    await world.apply(api_server, status, body, body)

    assert counted("hasty_endings_applied_total", status=label) == before + 1


async def test_crash_points_are_passed_in_order(
    world: World, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each at its place: chaos runs name them."""
    passed: list[CrashPoint] = []
    for module in ("api_server.endings", "api_server.outbox"):
        monkeypatch.setattr(f"{module}.crash_point", passed.append)

    world.broker.fate = lambda _: Fate.LOST
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    assert passed == [CrashPoint.API_BEFORE_PUBLISH, CrashPoint.API_AFTER_PUBLISH]
    passed.clear()
    world.broker.fate = lambda _: Fate.STORED
    world.pass_time(timedelta(hours=1))
    assert await api_server.outbox.sweep() == 1
    assert passed == [CrashPoint.API_DUE_SELECTED]
    passed.clear()
    await world.apply(api_server, Status.FINISHED, ending(job_id))
    assert passed == [CrashPoint.API_BEFORE_ENDING_WRITE, CrashPoint.API_AFTER_ENDING_WRITE]


async def test_admissions_and_dispatches_are_counted(world: World, api_server: ApiServer) -> None:
    """First ones and those of sweeps apart; a refusal is no admission."""
    names: list[tuple[str, dict[str, str]]] = [
        ("hasty_jobs_accepted_total", {}),
        ("hasty_jobs_refused_total", {}),
        ("hasty_jobs_dispatched_total", {"kind": "first"}),
        ("hasty_jobs_dispatched_total", {"kind": "rescue"}),
    ]
    before = [counted(name, **labels) for name, labels in names]
    await api_server.submit("x")
    with pytest.raises(TooSoonError):
        await api_server.submit("x")
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.LOST
    await api_server.submit("y")
    await api_server.outbox.finish()
    world.broker.fate = lambda _: Fate.STORED
    with capture_logs() as logs:
        await api_server.outbox.sweep()

    counts = [counted(name, **labels) for name, labels in names]
    assert [after - earlier for earlier, after in zip(before, counts, strict=True)] == [2, 1, 1, 1]
    [line] = logs
    assert (line["event"], line["log_level"], line["count"], line["unknown"]) == ("dispatched_due_jobs", "info", 1, 0)


async def test_outage_of_the_database_is_logged_with_its_reason(world: World, api_server: ApiServer) -> None:
    """And how many endings wait for it."""
    job_id = await api_server.submit("x")
    world.store.fate = lambda method: Fate.UNANSWERED if method == "apply" else Fate.STORED
    with capture_logs() as logs:
        await world.apply(api_server, Status.FINISHED, ending(job_id), b"malformed")
    [line] = [line for line in logs if line["event"] == "endings_not_applied"]
    assert (line["log_level"], line["count"]) == ("warning", 2)
    assert line["reason"]


async def test_cancellation_is_dispatched_until_the_job_has_ended(world: World, api_server: ApiServer) -> None:
    """Every ten seconds, and not at every sweep."""
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()
    await world.store.request_cancel([job_id], world.time)

    for _ in range(3):
        assert await api_server.outbox.sweep() == 1
        assert await api_server.outbox.sweep() == 0
        world.pass_time(timedelta(seconds=10))

    assert len(world.broker.take(JOB_CANCEL, 10)) == 3
