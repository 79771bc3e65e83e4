"""What the job-server relies on in its database, on the fake and on a real server alike."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from hasty.jobs import DeadLetter, Ending, Status, Turn
from hasty.server.local_stack import Child
from hasty.server.mongo import StoreUnavailable
from tests.eventually import eventually
from tests.fakes import FakeEndingStore
from tests.servers import start
from tests.store.conftest import RealEndings, open_endings

pytestmark = pytest.mark.asyncio(loop_scope="session")

Store = RealEndings | FakeEndingStore


def new_ending(job_id: str | None = None, status: Status = Status.FINISHED, sleep_time_used: float = 20) -> Ending:
    """The end of a job, as its worker saw it."""
    return Ending(Turn(job_id or str(uuid.uuid4()), "an object", 1_767_355_200), status, sleep_time_used, 1)


async def test_recorded_ending_is_read_back_unchanged(endings: Store) -> None:
    """Both kinds, with their sleeps; what is unknown is left out."""
    pair = [new_ending(sleep_time_used=17), new_ending(status=Status.CANCELLED, sleep_time_used=0.25)]

    assert await endings.record(pair) == {}

    assert await endings.recorded([o.job_id for o in pair] + ["x"]) == {o.job_id: o for o in pair}


async def test_empty_database_has_no_endings(endings: Store) -> None:
    """Before the first outcome ever."""
    assert await endings.recorded(["x"]) == {}


async def test_first_ending_is_kept_and_returned(endings: Store) -> None:
    """The second worker learns it, whatever it had seen itself; the others of its batch are recorded."""
    first = new_ending(sleep_time_used=17)
    second = replace(first, status=Status.CANCELLED, sleep_time_used=46, attempt=2)
    other = new_ending()
    await endings.record([first])

    assert await endings.record([second, other]) == {first.job_id: first}

    assert await endings.recorded([first.job_id, other.job_id]) == {
        first.job_id: first,
        other.job_id: other,
    }


async def test_recording_may_be_repeated(endings: Store) -> None:
    """As after an answer that was lost: the stored ending is its own."""
    outcome = new_ending()
    await endings.record([outcome])

    standing = await endings.record([outcome])

    assert standing in ({}, {outcome.job_id: outcome})
    assert await endings.recorded([outcome.job_id]) == {outcome.job_id: outcome}


async def test_concurrent_writers_have_one_winner(endings: Store) -> None:
    """Everybody else is handed the winner's."""
    rivals = [new_ending("the job", sleep_time_used=number) for number in range(30)]

    answers = await asyncio.gather(*(endings.record([rival]) for rival in rivals))

    [winner] = (await endings.recorded(["the job"])).values()
    assert [rival for rival, answer in zip(rivals, answers, strict=True) if answer == {}] == [winner]
    assert all(answer in ({}, {"the job": winner}) for answer in answers)


def _letter(key: str, data: bytes = b"\xff\x00garbage") -> DeadLetter:
    return DeadLetter(key, "job:created", data, "no JSON")


async def test_dead_letter_may_be_stored_again(endings: Store) -> None:
    """A repetition is no error, and does not hurt its batch."""
    await endings.dead_letter([_letter("job:created:1")])
    await endings.dead_letter([_letter("job:created:1"), _letter("job:created:2")])


async def test_dead_letters_can_be_read(real_endings: RealEndings, url: str) -> None:
    """Whoever looks finds the bytes and the reason, for thirty days."""
    await real_endings.dead_letter([_letter("job:created:7")])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("dead_letters")
        [row] = collection.find()
        assert row["_id"] == "job:created:7"
        assert (row["subject"], row["data"], row["reason"]) == ("job:created", b"\xff\x00garbage", "no JSON")
        assert collection.index_information()["expire"]["expireAfterSeconds"] == 30 * 24 * 3600
        assert row["at"] <= datetime.now(UTC)  # without a time it would never expire


async def test_worker_is_stored_with_the_ending(real_endings: RealEndings, url: str) -> None:
    """For whoever must find out later what happened."""
    outcome = new_ending()
    await real_endings.record([outcome])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("outcomes")
        [row] = collection.find()
    assert (row["_id"], row["worker"], row["attempt"]) == (outcome.job_id, "a test", 1)
    assert row["recorded_at"].tzinfo is not None


async def test_store_recovers_after_an_outage(endings: Store, server: Child) -> None:
    """Every method says so; what was recorded is still there afterwards."""
    outcome = new_ending()
    await endings.record([outcome])
    fake = endings if isinstance(endings, FakeEndingStore) else None

    if fake:
        fake.up = False
    else:
        await server.stay_down()
    try:
        async with asyncio.timeout(6):
            answers = await asyncio.gather(
                endings.ping(),
                endings.recorded(["x"]),
                endings.record([new_ending()]),
                endings.dead_letter([_letter("1")]),
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
            return await endings.recorded([outcome.job_id]) == {outcome.job_id: outcome}
        except StoreUnavailable:
            return False

    await eventually(recorded)


async def test_invalid_url_is_refused_without_repeating_it() -> None:
    """A URL may hold a password."""
    with pytest.raises(ValueError, match="Port must be") as caught:
        async with open_endings("mongodb://user:s3cret@host:99999999/x"):
            pass
    assert "s3cret" not in str(caught.value)


_ENDINGS = st.builds(
    new_ending, st.sampled_from("abc"), st.sampled_from([Status.FINISHED, Status.CANCELLED]), st.integers(0, 45)
)
_STEPS = st.one_of(
    st.tuples(st.just("record"), st.lists(_ENDINGS, min_size=1, max_size=3, unique_by=lambda ending: ending.job_id)),
    st.tuples(st.just("recorded"), st.lists(st.sampled_from("abc"), unique=True)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=12))
async def test_the_fake_answers_as_the_real_one(server: Child, steps: list[tuple[str, list[object]]]) -> None:
    """Whatever is asked in whatever order."""
    fake = FakeEndingStore()
    async with open_endings(f"mongodb://{server.address}/test_{uuid.uuid4().hex}") as real:
        for name, argument in steps:
            assert await getattr(real, name)(argument) == await getattr(fake, name)(argument), (name, argument)
