"""Who sweeps: one api-server at a time, and another one when it is gone or can publish nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from api_server.domain import overdue_after
from api_server.outbox import Outbox
from api_server.sweep_claim import CLAIM, RENEW_EVERY, WAIT_AFTER_FAILURE, SweepClaim
from hasty.jobs import Job
from hasty.server.messaging.events import Outgoing
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore, FakeLeaseStore

OVERDUE = timedelta(seconds=180)
SECOND = timedelta(seconds=1)


class Database:
    """A database under a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 12, tzinfo=UTC)
        self.jobs = FakeJobStore(self.now)
        self.leases = FakeLeaseStore(self.jobs)

    def now(self) -> datetime:
        """What its clock says."""
        return self.time

    def claim(self, owner: str) -> SweepClaim:
        """An api-server's claim."""
        return SweepClaim(self.leases, owner=owner, now=self.now)


@pytest.fixture
def database() -> Database:
    """A database of this test's own."""
    return Database()


async def test_claim_lasts_while_it_is_renewed(database: Database) -> None:
    """Nobody else gets it, however long that is."""
    one, two = database.claim("one"), database.claim("two")

    for _ in range(20):
        assert (await one.held(), await two.held()) == (True, False)
        database.time += SECOND


async def test_claim_is_renewed_only_now_and_then(database: Database) -> None:
    """A claim that was renewed just now costs no write."""
    one = database.claim("one")
    assert await one.held()
    database.jobs.up = False

    database.time += RENEW_EVERY - SECOND / 10
    assert await one.held()


async def test_claim_of_an_api_server_that_is_gone_runs_out(database: Database) -> None:
    """Within seconds another one sweeps."""
    one, two = database.claim("one"), database.claim("two")
    assert await one.held()

    database.time += CLAIM - SECOND
    assert not await two.held()
    database.time += SECOND
    assert await two.held()


async def test_claim_that_publishes_nothing_goes_to_another(database: Database) -> None:
    """It is used until it runs out; only then does another one have it, and the first one waits its turn."""
    one, two = database.claim("one"), database.claim("two")
    assert await one.held()
    one.note(published=False)

    seen = []
    for _ in range(8):
        database.time += SECOND
        seen.append((await one.held(), await two.held()))

    assert seen == [(True, False)] * 4 + [(False, True)] * 4


async def test_claim_that_was_given_back_can_be_made_again(database: Database) -> None:
    """By whoever comes first, who does not inherit anything."""
    one, two = database.claim("one"), database.claim("two")
    assert await one.held()

    await one.give_back()
    assert await two.held()
    assert not await one.held()
    await two.give_back()
    assert await one.held()

    assert (one.inherited, two.inherited) == (False, False)


async def test_alone_a_failing_api_server_goes_on(database: Database) -> None:
    """Nobody else takes the claim, so it has it again a little later."""
    one = database.claim("one")
    assert await one.held()
    one.note(published=False)

    database.time += CLAIM
    assert not await one.held()
    database.time += WAIT_AFTER_FAILURE
    assert await one.held()


async def test_success_keeps_the_claim(database: Database) -> None:
    """A failure before it is forgotten."""
    one, two = database.claim("one"), database.claim("two")
    assert await one.held()
    one.note(published=False)
    one.note(published=True)

    for _ in range(10):
        database.time += SECOND
        assert (await one.held(), await two.held()) == (True, False)


async def test_claim_given_back_is_free_at_once(database: Database) -> None:
    """As at a clean end."""
    one, two = database.claim("one"), database.claim("two")
    assert await one.held()
    assert not await two.held()

    await two.give_back()
    assert not await two.held()
    await one.give_back()
    assert await two.held()


@asynccontextmanager
async def sweeping(*outboxes: Outbox) -> AsyncIterator[None]:
    """Run the sweeps of several api-servers."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run_sweeps(), name="sweeps") for outbox in outboxes]
        yield
        for task in tasks:
            task.cancel()


async def test_one_of_several_api_servers_sweeps(database: Database) -> None:
    """Each due job is published by one of them, once."""
    broker = FakeBroker()
    broker.ensure(50)
    published: list[str] = []

    class Publisher(FakeJetStream):
        """One api-server's connection."""

        async def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
            """Note what is published, and take a while."""
            published.extend(str(message.message_id) for message in messages)
            await asyncio.sleep(0.05)
            return await super().publish(messages)

    outboxes = [
        Outbox(database.jobs, database.leases, Publisher(broker), now=database.now, overdue=OVERDUE, name=name)
        for name in ("one", "two", "three")
    ]
    jobs = [Job(f"job {number}", f"object {number}", 1, database.time) for number in range(30)]
    await database.jobs.insert(jobs, database.time, "an owner")

    async with sweeping(*outboxes):
        later = database.time + overdue_after(1, OVERDUE)
        await eventually(lambda: set(database.jobs.due_at.values()) == {later})

    assert sorted(published) == sorted(f"{job.job_id}:1" for job in jobs)
