"""The timers, and the work behind the seam."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from hasty.jobs import Status, Turn
from hasty.server.runtime.timers import GRAIN_S, IdleTimer, TimerQueue
from job_server.work import sleeping
from tests.eventually import eventually

TURN = Turn("00000000-0000-4000-8000-000000000000", "x", 1)


async def test_timers_fire_in_order_and_not_too_early() -> None:
    """Whatever order they were made in."""
    timers = TimerQueue()
    began, kept = time.monotonic(), []
    for delay_s in (0.06, 0.02, 0.04):
        timers.after(delay_s, lambda delay_s=delay_s: kept.append((delay_s, time.monotonic() - began)))  # type: ignore[misc]
    await eventually(lambda: len(kept) == 3)
    assert [delay_s for delay_s, _ in kept] == [0.02, 0.04, 0.06]
    assert all(after_s >= delay_s for delay_s, after_s in kept)


async def test_sooner_timer_fires_first() -> None:
    """The one timer always stands at the next due time."""
    timers, kept = TimerQueue(), []
    timers.after(60, lambda: kept.append("late"))
    timers.after(0, lambda: kept.append("soon"))
    await eventually(lambda: kept == ["soon"])
    timers.close()


async def test_cancelled_timer_does_not_fire() -> None:
    """And its neighbours are."""
    timers, kept = TimerQueue(), []
    timers.after(0.01, lambda: kept.append(1)).cancel()
    timers.after(0.02, lambda: kept.append(2))
    await eventually(lambda: kept)
    assert kept == [2]


async def test_failing_timer_does_not_affect_others(capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged instead."""

    def broken() -> None:
        raise ZeroDivisionError

    timers, kept = TimerQueue(), []
    timers.after(0, broken)
    timers.after(0, lambda: kept.append(1))
    await eventually(lambda: kept == [1])
    assert "timer_failed" in "".join(capsys.readouterr())


async def test_many_timers_need_one_loop_timer_and_no_task() -> None:
    """That is what makes ten thousand sleeping jobs cheap."""
    timers = TimerQueue()
    before = len(asyncio.all_tasks())
    ends: list[float] = []
    work = sleeping(timers, lambda: 3600.0, timeout_s=7200)
    for _ in range(10_000):
        work(TURN, lambda _ending, took_s: ends.append(took_s))
    assert len(timers) == 10_000
    assert len(asyncio.all_tasks()) == before
    timers.close()
    gc.collect()
    assert ends == []


async def test_sleeping_finishes_or_ends_at_its_timeout() -> None:
    """The cancel branch runs, and the time it took is the timeout's."""
    timers = TimerQueue()
    ends: list[tuple[Status, float]] = []
    sleeping(timers, lambda: 0.01, timeout_s=0.02)(TURN, lambda *end: ends.append(end))
    sleeping(timers, lambda: 10.0, timeout_s=0.02)(TURN, lambda *end: ends.append(end))
    await eventually(lambda: len(ends) == 2)
    assert ends == [(Status.FINISHED, 0.01), (Status.CANCELLED, 0.02)]


async def test_stopped_work_reports_no_ending() -> None:
    """A job that was handed back must not end here as well."""
    timers = TimerQueue()
    ends: list[Status] = []
    sleeping(timers, lambda: GRAIN_S, timeout_s=1)(TURN, lambda ending, _s: ends.append(ending))()
    passed: list[bool] = []
    timers.after(0.05, lambda: passed.append(True))
    await eventually(lambda: passed)
    assert ends == []


async def test_idle_time_counts_from_the_latest_start() -> None:
    """However often it was started before; and one timer of the loop serves all."""
    loop = asyncio.get_running_loop()
    expired: asyncio.Future[float] = loop.create_future()
    idle = IdleTimer(loop, 0.1, lambda: expired.set_result(loop.time()))
    idle.start()
    await asyncio.sleep(0.05)
    idle.start()
    started = loop.time()
    assert await expired - started > 0.099
