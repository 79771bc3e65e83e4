"""Requests to cancel jobs, as a job-server takes them."""

import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from hasty.jobs import Turn
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import JOB_CANCEL
from job_server.cancellations import Cancellations, parse_ids
from job_server.recent import Recent
from tests.fakes import FakeJetStream
from tests.unit.job_server.world import World


class Office:
    """A job-server's part in cancellations, and what the others hold."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.here: set[str] = set()
        self.elsewhere: set[str] = set()
        self.heard: list[str] = []
        self.published: list[bytes] = []
        self.ended: list[str] = []
        self.broker = FakeJetStream(world.broker)
        self.cancellations = Cancellations(
            self,
            self.broker,
            DeadLetters(world.store.dead_letter, self.broker),
            publish=self.publish,
            is_held_elsewhere=self.ask,
        )

    def cancel(self, job_ids: Collection[str]) -> None:
        """Hear which jobs are to be cancelled."""
        self.heard += job_ids

    def holds(self, job_id: str) -> bool:
        """Whether a job is held here."""
        return job_id in self.here

    def end_cancelled(self, turn: Turn, delivery: Delivery) -> None:
        """End a turn that nobody holds."""
        self.ended.append(turn.job_id)
        self.world.broker.settle(delivery)

    async def publish(self, data: bytes) -> None:
        """Tell all job-servers."""
        self.published.append(data)

    async def ask(self, job_id: str) -> bool:
        """Ask the others, who have heard of it by then."""
        assert any(job_id in parse_ids(data) for data in self.published)
        return job_id in self.elsewhere

    async def take(self, *turns: Turn) -> None:
        """Take requests for these turns."""
        await self.cancellations.take([self.world.request_cancel(turn) for turn in turns])


@pytest.fixture
def office(world: World) -> Office:
    """One job-server's."""
    return Office(world)


async def test_job_that_nobody_holds_ends_here(world: World, office: Office) -> None:
    """All have heard of it before."""
    turn = world.post()
    await office.take(turn)

    assert office.ended == office.heard == [turn.job_id]
    assert json.loads(office.published[0]) == [turn.job_id]


async def test_held_job_is_left_to_its_holder(world: World, office: Office) -> None:
    """Here or elsewhere; the request is acknowledged, and comes again if it does not end."""
    here, there = world.post(), world.post()
    office.here, office.elsewhere = {here.job_id}, {there.job_id}

    await office.take(here, there)

    assert office.ended == []
    assert office.heard == [here.job_id, there.job_id]
    assert world.broker.unfinished(JOB_CANCEL) == 0


async def test_malformed_request_becomes_a_dead_letter(world: World, office: Office) -> None:
    """The one beside it is taken."""
    world.broker.store(Outgoing(Subject.CANCEL.value, b"{}"))
    malformed = world.broker.take(JOB_CANCEL, 1)
    turn = world.post()

    await office.cancellations.take([*malformed, world.request_cancel(turn)])

    assert office.ended == [turn.job_id]
    assert len(world.store.dead) == 1


async def test_requests_wait_for_the_database(world: World, office: Office) -> None:
    """What cannot be stored as a dead letter comes again, with what came beside it."""
    world.broker.store(Outgoing(Subject.CANCEL.value, b"{}"))
    malformed = world.broker.take(JOB_CANCEL, 1)
    world.store.up = False

    await office.cancellations.take(malformed)

    assert world.broker.unfinished(JOB_CANCEL) == 1


@pytest.mark.parametrize("data", [b"", b"{", b"1", b"null", b'"x"', b"[1, null, {}]", b"\xff"])
def test_what_is_no_list_of_ids_is_ignored(data: bytes, office: Office) -> None:
    """It comes from anybody who may publish."""
    office.cancellations.hear(data)
    assert office.heard == []


def test_heard_jobs_are_forgotten_after_a_while() -> None:
    """Or when there are too many of them: the oldest first."""
    now = [0.0]
    recent = Recent(kept_s=10, most=3, now=lambda: now[0])
    recent.add(["a"])
    now[0] = 9.0
    recent.add(["b"])
    assert "a" in recent
    now[0] = 11.0
    assert "a" not in recent
    assert "b" in recent
    recent.add(["c", "d", "e"])
    assert ["b" in recent, "c" in recent, len(recent)] == [False, True, 3]


async def test_request_is_for_the_turn_it_names(world: World, office: Office) -> None:
    """A later turn of the same job has a request of its own."""
    turn = replace(world.post(), number=1)
    await office.take(turn)
    assert office.ended == [turn.job_id]
