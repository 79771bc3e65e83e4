"""One timer for any number of appointments, and the work that is made of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from job_server.agenda import Agenda
from job_server.domain import Ending, Job
from job_server.work import as_task, sleeping
from tests.eventually import eventually

JOB = Job("00000000-0000-0000-0000-000000000000", "x", 0)


@pytest.fixture
async def agenda() -> AsyncIterator[Agenda]:
    """An agenda of this test's loop."""
    agenda = Agenda()
    yield agenda
    agenda.close()


async def test_appointments_come_in_the_order_of_their_times(agenda: Agenda) -> None:
    """Not in the order in which they were made, and none too early."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    kept: list[tuple[float, float]] = []

    def keep(delay_s: float) -> None:
        kept.append((delay_s, loop.time() - start))

    for delay_s in (0.06, 0.02, 0.04, 0.0, 0.02):
        agenda.after(delay_s, partial(keep, delay_s))

    await eventually(lambda: len(kept) == 5)

    assert [delay_s for delay_s, _ in kept] == [0.0, 0.02, 0.02, 0.04, 0.06]
    assert all(delay_s <= late for delay_s, late in kept)
    assert len(agenda) == 0


async def test_an_earlier_appointment_does_not_wait_for_a_later_one(agenda: Agenda) -> None:
    """Also when the later one was made first."""
    kept: list[str] = []
    agenda.after(3600, lambda: kept.append("late"))
    agenda.after(0.01, lambda: kept.append("soon"))

    await eventually(lambda: kept == ["soon"])


async def test_a_cancelled_appointment_is_not_kept(agenda: Agenda) -> None:
    """The others are."""
    kept: list[int] = []
    appointments = [agenda.after(0.01, partial(kept.append, number)) for number in range(3)]
    appointments[1].cancel()

    await eventually(lambda: len(agenda) == 0)

    assert kept == [0, 2]


async def test_one_bad_appointment_does_not_cost_the_others_theirs(agenda: Agenda) -> None:
    """Whatever it raises."""
    kept: list[int] = []

    def fail() -> None:
        raise RuntimeError("bad")

    agenda.after(0.01, fail)
    agenda.after(0.02, lambda: kept.append(1))

    await eventually(lambda: kept == [1])


async def test_a_closed_agenda_keeps_nothing() -> None:
    """What was open is forgotten."""
    agenda = Agenda()
    kept: list[int] = []
    agenda.after(0.0, lambda: kept.append(1))
    agenda.close()
    other = Agenda()
    other.after(0.01, lambda: kept.append(2))

    await eventually(lambda: kept == [2])
    other.close()


Ends = list[tuple[Ending, float]]


@pytest.fixture
def ends() -> Ends:
    """How jobs have ended."""
    return []


def noting(ends: Ends) -> Callable[[Ending, float], None]:
    """What to call when a job ends."""
    return lambda ending, took_s: ends.append((ending, took_s))


async def test_sleeping_ends_after_its_sleep(agenda: Agenda, ends: Ends) -> None:
    """Finished, with the sleep it chose."""
    sleeping(agenda, lambda: 0.02, timeout_s=1)(JOB, noting(ends))
    assert ends == []

    await eventually(lambda: ends == [(Ending.FINISHED, 0.02)])


async def test_sleeping_too_long_is_cancelled_at_the_timeout(agenda: Agenda, ends: Ends) -> None:
    """With the time it had."""
    sleeping(agenda, lambda: 3600, timeout_s=0.02)(JOB, noting(ends))

    await eventually(lambda: ends == [(Ending.CANCELLED, 0.02)])


async def test_a_stopped_sleep_never_ends(agenda: Agenda, ends: Ends) -> None:
    """It is another's then."""
    stop = sleeping(agenda, lambda: 0.01, timeout_s=1)(JOB, noting(ends))
    stop()

    await eventually(lambda: len(agenda) == 0)

    assert ends == []


async def test_other_work_runs_in_a_task(ends: Ends) -> None:
    """It gets its job, and ends when it is done."""
    seen: list[Job] = []

    async def do(job: Job) -> None:
        seen.append(job)

    as_task(do, timeout_s=5)(JOB, noting(ends))

    await eventually(lambda: len(ends) == 1)
    assert seen == [JOB]
    assert ends[0][0] is Ending.FINISHED


async def test_other_work_is_cancelled_by_its_timeout_and_by_its_errors(ends: Ends) -> None:
    """The outcome comes all the same."""

    async def never(_job: Job) -> None:
        await asyncio.Event().wait()

    async def fail(_job: Job) -> None:
        raise RuntimeError("a defect of the work")

    as_task(never, timeout_s=0.01)(JOB, noting(ends))
    as_task(fail, timeout_s=5)(JOB, noting(ends))

    await eventually(lambda: len(ends) == 2)
    assert {ending for ending, _ in ends} == {Ending.CANCELLED}


async def test_other_work_that_is_stopped_never_ends(ends: Ends) -> None:
    """Its task is gone."""
    begun = asyncio.Event()

    async def never(_job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    stop = as_task(never, timeout_s=5)(JOB, noting(ends))
    await begun.wait()
    stop()

    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert ends == []
