"""What the job-server relies on in its database, on the fake and on a real server alike."""

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_server.domain import Ending, Job, Outcome
from job_server.errors import StoreUnavailable
from job_server.service import SetAside
from job_server.store import OutcomeStore
from local_stack import Child
from tests.eventually import eventually
from tests.fakes import FakeOutcomeStore
from tests.servers import start

if TYPE_CHECKING:
    from pymongo.collection import Collection

pytestmark = pytest.mark.asyncio(loop_scope="session")

Store = OutcomeStore | FakeOutcomeStore


def new_outcome(job_id: str | None = None, ending: Ending = Ending.FINISHED, sleep_time_used: float = 20) -> Outcome:
    """The end of a job, as its worker saw it."""
    return Outcome(Job(job_id or str(uuid.uuid4()), "an object", 1_767_355_200), ending, sleep_time_used, 1)


async def test_a_recorded_outcome_comes_back_as_it_was(outcomes: Store) -> None:
    """Both kinds, with their sleeps; what is unknown is left out."""
    pair = [new_outcome(sleep_time_used=17), new_outcome(ending=Ending.CANCELLED, sleep_time_used=0.25)]

    assert await outcomes.record(pair) == {}

    assert await outcomes.recorded([o.job.job_id for o in pair] + ["x"]) == {o.job.job_id: o for o in pair}


async def test_nothing_is_recorded_in_an_empty_database(outcomes: Store) -> None:
    """Before the first outcome ever."""
    assert await outcomes.recorded(["x"]) == {}


async def test_the_first_outcome_stands_and_is_handed_out(outcomes: Store) -> None:
    """The second worker learns it, whatever it had seen itself; the others of its batch are recorded."""
    first = new_outcome(sleep_time_used=17)
    second = replace(first, ending=Ending.CANCELLED, sleep_time_used=46, attempt=2)
    other = new_outcome()
    await outcomes.record([first])

    assert await outcomes.record([second, other]) == {first.job.job_id: first}

    assert await outcomes.recorded([first.job.job_id, other.job.job_id]) == {
        first.job.job_id: first,
        other.job.job_id: other,
    }


async def test_a_record_may_be_repeated(outcomes: Store) -> None:
    """As after an answer that was lost: what stands is one's own."""
    outcome = new_outcome()
    await outcomes.record([outcome])

    standing = await outcomes.record([outcome])

    assert standing in ({}, {outcome.job.job_id: outcome})
    assert await outcomes.recorded([outcome.job.job_id]) == {outcome.job.job_id: outcome}


async def test_a_race_of_many_has_one_winner(outcomes: Store) -> None:
    """Everybody else is handed the winner's."""
    rivals = [new_outcome("the job", sleep_time_used=number) for number in range(30)]

    answers = await asyncio.gather(*(outcomes.record([rival]) for rival in rivals))

    [winner] = (await outcomes.recorded(["the job"])).values()
    assert [rival for rival, answer in zip(rivals, answers, strict=True) if answer == {}] == [winner]
    assert all(answer in ({}, {"the job": winner}) for answer in answers)


def _aside(key: str, data: bytes = b"\xff\x00garbage") -> SetAside:
    return SetAside(key, "job:created", data, "no JSON")


async def test_messages_are_set_aside_more_than_once_without_harm(outcomes: Store) -> None:
    """A repetition is no error, and does not hurt its batch."""
    await outcomes.set_aside([_aside("job:created:1")])
    await outcomes.set_aside([_aside("job:created:1"), _aside("job:created:2")])


async def test_messages_set_aside_can_be_read(real_outcomes: OutcomeStore, url: str) -> None:
    """Whoever looks finds the bytes and the reason, for thirty days."""
    await real_outcomes.set_aside([_aside("job:created:7")])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("set_aside")
        [row] = collection.find()
        assert row["_id"] == "job:created:7"
        assert (row["subject"], row["data"], row["reason"]) == ("job:created", b"\xff\x00garbage", "no JSON")
        assert collection.index_information()["forget"]["expireAfterSeconds"] == 30 * 24 * 3600


async def test_who_worked_is_written_down(real_outcomes: OutcomeStore, url: str) -> None:
    """For whoever must find out later what happened."""
    outcome = new_outcome()
    await real_outcomes.record([outcome])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("outcomes")
        [row] = collection.find()
    assert (row["_id"], row["worker"], row["attempt"]) == (outcome.job.job_id, "a test", 1)
    assert row["recorded_at"].tzinfo is not None


async def test_an_outage_is_told_and_ends_by_itself(outcomes: Store, server: Child) -> None:
    """Every method says so; what was recorded is still there afterwards."""
    outcome = new_outcome()
    await outcomes.record([outcome])
    fake = outcomes if isinstance(outcomes, FakeOutcomeStore) else None

    if fake:
        fake.up = False
    else:
        await server.stay_down()
    try:
        async with asyncio.timeout(6):
            answers = await asyncio.gather(
                outcomes.ping(),
                outcomes.recorded(["x"]),
                outcomes.record([new_outcome()]),
                outcomes.set_aside([_aside("1")]),
                return_exceptions=True,
            )
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
    finally:
        if fake:
            fake.up = True
        else:
            await start(server)

    async def recorded() -> bool:
        try:
            return await outcomes.recorded([outcome.job.job_id]) == {outcome.job.job_id: outcome}
        except StoreUnavailable:
            return False

    await eventually(recorded)


async def test_an_address_that_is_none_is_refused_without_repeating_it() -> None:
    """A URL may hold a password."""
    with pytest.raises(ValueError, match="Port must be") as caught:
        async with OutcomeStore.opened("mongodb://user:s3cret@host:99999999/x", worker="a test"):
            pass
    assert "s3cret" not in str(caught.value)


_OUTCOMES = st.builds(new_outcome, st.sampled_from("abc"), st.sampled_from(Ending), st.integers(0, 45))
_STEPS = st.one_of(
    st.tuples(
        st.just("record"), st.lists(_OUTCOMES, min_size=1, max_size=3, unique_by=lambda outcome: outcome.job.job_id)
    ),
    st.tuples(st.just("recorded"), st.lists(st.sampled_from("abc"), unique=True)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=12))
async def test_the_fake_answers_as_the_real_one(server: Child, steps: list[tuple[str, list[object]]]) -> None:
    """Whatever is asked in whatever order."""
    fake = FakeOutcomeStore()
    async with OutcomeStore.opened(f"mongodb://{server.address}/test_{uuid.uuid4().hex}", worker="a test") as real:
        for name, argument in steps:
            assert await getattr(real, name)(argument) == await getattr(fake, name)(argument), (name, argument)
