"""Endings bring jobs up to date, on fakes that fail on demand."""

import uuid
from datetime import timedelta

import pytest

from hasty.jobs import Status
from hasty.server.messaging.events import ENDING_SUBJECTS, Outgoing
from hasty.server.messaging.topology import JOB_FINISHED
from tests.fakes import Fate
from tests.unit.api_server.world import OVERDUE, ApiServer, World, ending


@pytest.mark.parametrize("status", [Status.FINISHED, Status.CANCELLED])
async def test_ending_moves_its_job(world: World, api_server: ApiServer, status: Status) -> None:
    """Then, and only then, it is acknowledged; the job is never dispatched again."""
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()

    await world.apply(api_server, status, ending(job_id, status, 17))

    job = await api_server.find(job_id)
    assert job is not None
    assert (job.status, job.sleep_time_used) == (status, 17)
    assert world.at_rest(status)
    world.published()
    world.pass_time(10 * OVERDUE)
    assert await api_server.outbox.sweep() == 0


async def test_later_endings_are_acknowledged_and_ignored(world: World, api_server: ApiServer) -> None:
    """Repetitions and contradictions alike."""
    job_id = await api_server.submit("x")
    await world.apply(api_server, Status.FINISHED, ending(job_id, slept=17), ending(job_id, slept=18))
    before = await api_server.find(job_id)

    await world.apply(api_server, Status.CANCELLED, ending(job_id, Status.CANCELLED, 46))
    await world.apply(api_server, Status.FINISHED, ending(job_id, slept=19))

    assert await api_server.find(job_id) == before
    assert world.store.moves == [(job_id, Status.FINISHED)]
    assert world.at_rest(Status.FINISHED)
    assert world.at_rest(Status.CANCELLED)


async def test_malformed_message_becomes_a_dead_letter(world: World, api_server: ApiServer) -> None:
    """It never comes again, and the sense beside it gets through."""
    job_id = await api_server.submit("x")
    stranger = str(uuid.uuid4())

    await world.apply(api_server, Status.FINISHED, b"\xff", ending(job_id), ending(stranger), b"{}")

    job = await api_server.find(job_id)
    assert job is not None
    assert job.status is Status.FINISHED
    assert world.at_rest(Status.FINISHED)
    letters = {letter.data: letter.reason for letter in world.store.dead.values()}
    assert set(letters) == {b"\xff", ending(stranger), b"{}"}
    assert letters[ending(stranger)] == "no such job"


async def test_endings_are_delivered_again_after_an_outage(world: World, api_server: ApiServer) -> None:
    """They are handed back, neither lost nor dead letters, and come again."""
    job_id = await api_server.submit("x")
    world.store.fate = lambda method: Fate.UNANSWERED if method == "apply" else Fate.STORED
    await world.apply(api_server, Status.FINISHED, ending(job_id), b"malformed")
    assert not world.at_rest(Status.FINISHED)

    world.store.fate = lambda _: Fate.STORED
    world.pass_time(timedelta(seconds=2))
    await world.apply(api_server, Status.FINISHED)

    assert world.store.moves == [(job_id, Status.FINISHED)]
    assert world.at_rest(Status.FINISHED)
    assert len(world.store.dead) == 1


async def test_message_is_kept_until_its_dead_letter_is_stored(world: World, api_server: ApiServer) -> None:
    """Otherwise it would be gone where nobody can read it."""
    world.store.fate = lambda method: Fate.LOST if method == "dead_letter" else Fate.STORED
    await world.apply(api_server, Status.FINISHED, b"malformed")

    assert not world.at_rest(Status.FINISHED)
    assert world.store.dead == {}


async def test_defect_makes_a_message_a_dead_letter(world: World, api_server: ApiServer) -> None:
    """It becomes a dead letter with its reason and never comes again."""
    world.broker.store(Outgoing(ENDING_SUBJECTS[Status.FINISHED].value, b"odd"))
    [delivery] = world.broker.take(JOB_FINISHED, 1)

    await api_server.dead_letters.put_defect(delivery, "a defect")

    assert world.at_rest(Status.FINISHED)
    assert [(letter.data, letter.reason) for letter in world.store.dead.values()] == [(b"odd", "a defect")]


async def test_dead_letter_of_a_huge_message_is_cut(world: World, api_server: ApiServer) -> None:
    """What is kept has a bound."""
    await world.apply(api_server, Status.FINISHED, b"x" * 100_000)

    assert [len(letter.data) for letter in world.store.dead.values()] == [64 * 1024]
