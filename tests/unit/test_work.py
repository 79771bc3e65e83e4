"""The agenda, and the work behind the seam."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

from job_server.agenda import GRAIN_S, Agenda
from job_server.domain import Ending, Job
from job_server.work import as_task, sleeping
from tests.eventually import eventually

if TYPE_CHECKING:
    import pytest

JOB = Job("00000000-0000-4000-8000-000000000000", "x", 1)


async def test_appointments_are_kept_in_order_and_not_too_early() -> None:
    """Whatever order they were made in."""
    agenda = Agenda()
    began, kept = time.monotonic(), []
    for delay_s in (0.06, 0.02, 0.04):
        agenda.after(delay_s, lambda delay_s=delay_s: kept.append((delay_s, time.monotonic() - began)))  # type: ignore[misc]
    await eventually(lambda: len(kept) == 3)
    assert [delay_s for delay_s, _ in kept] == [0.02, 0.04, 0.06]
    assert all(after_s >= delay_s for delay_s, after_s in kept)


async def test_a_sooner_appointment_moves_the_timer_forward() -> None:
    """The one timer always stands at the next appointment."""
    agenda, kept = Agenda(), []
    agenda.after(60, lambda: kept.append("late"))
    agenda.after(0, lambda: kept.append("soon"))
    await eventually(lambda: kept == ["soon"])
    agenda.close()


async def test_a_cancelled_appointment_is_not_kept() -> None:
    """And its neighbours are."""
    agenda, kept = Agenda(), []
    agenda.after(0.01, lambda: kept.append(1)).cancel()
    agenda.after(0.02, lambda: kept.append(2))
    await eventually(lambda: kept)
    assert kept == [2]


async def test_one_bad_appointment_does_not_cost_the_others_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged instead."""

    def broken() -> None:
        raise ZeroDivisionError

    agenda, kept = Agenda(), []
    agenda.after(0, broken)
    agenda.after(0, lambda: kept.append(1))
    await eventually(lambda: kept == [1])
    assert "appointment_failed" in "".join(capsys.readouterr())


async def test_many_appointments_cost_one_timer_and_no_task() -> None:
    """That is what makes ten thousand sleeping jobs cheap."""
    agenda = Agenda()
    before = len(asyncio.all_tasks())
    ends: list[float] = []
    work = sleeping(agenda, lambda: 3600.0, timeout_s=7200)
    for _ in range(10_000):
        work(JOB, lambda _ending, took_s: ends.append(took_s))
    assert len(agenda) == 10_000
    assert len(asyncio.all_tasks()) == before
    agenda.close()
    gc.collect()
    assert ends == []


async def test_sleeping_ends_finished_or_at_its_timeout() -> None:
    """The cancel branch runs, and the time it took is the timeout's."""
    agenda = Agenda()
    ends: list[tuple[Ending, float]] = []
    sleeping(agenda, lambda: 0.01, timeout_s=0.02)(JOB, lambda *end: ends.append(end))
    sleeping(agenda, lambda: 10.0, timeout_s=0.02)(JOB, lambda *end: ends.append(end))
    await eventually(lambda: len(ends) == 2)
    assert ends == [(Ending.FINISHED, 0.01), (Ending.CANCELLED, 0.02)]


async def test_work_as_a_task_finishes_is_cancelled_or_fails_once() -> None:
    """Each way of ending is told exactly once."""
    ends: dict[str, list[Ending]] = {"finishes": [], "too long": [], "fails": []}

    async def fail(_job: Job) -> None:
        raise ValueError("no")

    as_task(lambda _job: asyncio.sleep(0), 5)(JOB, lambda ending, _s: ends["finishes"].append(ending))
    as_task(lambda _job: asyncio.sleep(60), 0.01)(JOB, lambda ending, _s: ends["too long"].append(ending))
    as_task(fail, 5)(JOB, lambda ending, _s: ends["fails"].append(ending))
    await eventually(lambda: all(ends.values()))
    assert ends == {
        "finishes": [Ending.FINISHED],
        "too long": [Ending.CANCELLED],
        "fails": [Ending.CANCELLED],
    }


async def test_stopped_work_tells_nothing() -> None:
    """A job that was handed back must not end here as well."""
    agenda = Agenda()
    ends: list[Ending] = []
    sleeping(agenda, lambda: GRAIN_S, timeout_s=1)(JOB, lambda ending, _s: ends.append(ending))()
    as_task(lambda _job: asyncio.sleep(0.01), 1)(JOB, lambda ending, _s: ends.append(ending))()
    passed: list[bool] = []
    agenda.after(0.05, lambda: passed.append(True))
    await eventually(lambda: passed)
    assert ends == []
