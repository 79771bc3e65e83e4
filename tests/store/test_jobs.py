"""What the api-server relies on in its database, on the fake and on a real server alike."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import pymongo
import pytest
from pymongo.collection import Collection

from api_server.store.jobs import _each
from api_server.store.runs import LONG_FROM
from hasty.jobs import Status
from hasty.server.mongo import StoreUnavailable
from tests.store.conftest import RealStore
from tests.store.jobs import NOON, OWNER, SECOND, Store, end, ending_of, letter, new_job, run_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_stored_job_comes_back_as_it_was(jobs: Store) -> None:
    """With its time, in its zone, to the millisecond."""
    job = new_job()

    assert await jobs.insert([job], NOON, OWNER) == set()

    assert await jobs.get([job.job_id]) == {job.job_id: job}
    assert await jobs.latest_runs(["an object"]) == {"an object": run_of(job)}


async def test_unknown_ids_are_left_out(jobs: Store) -> None:
    """No error and no None, also in an empty database."""
    assert await jobs.get(["x", "y"]) == {}
    assert await jobs.latest_runs(["x"]) == {}
    assert await jobs.due(NOON, 10) == []
    assert await jobs.make_all_due(NOON) == 0
    await jobs.mark_dispatched(["x"], 1, NOON)
    assert await jobs.apply(Status.FINISHED, [ending_of("x")], NOON) == (0, {"x"})
    assert await jobs.get(["x"]) == {}


async def test_the_latest_run_is_the_one_with_the_highest_number(jobs: Store) -> None:
    """Of many objects at once, whatever the order they came in."""
    runs = [new_job(name, number) for number in (2, 3, 1) for name in ("a", "b", "c")]
    await jobs.insert(runs, NOON, OWNER)

    latest = await jobs.latest_runs(["a", "c", "d"])

    assert {name: run.number for name, run in latest.items()} == {"a": 3, "c": 3}


async def test_latest_of_many_runs_is_found_again_and_again(jobs: Store) -> None:
    """Also where it was looked up before, has a successor, or is gone."""
    many = [new_job("many", number) for number in range(LONG_FROM - 1, LONG_FROM + 2)]
    for job in many:
        await jobs.insert([job], NOON, OWNER)
        assert await jobs.latest_runs(["many", "none"]) == {"many": run_of(job)}
        assert await jobs.latest_runs(["many"]) == {"many": run_of(job)}


async def test_object_with_many_runs_is_looked_up_from_a_known_one(
    real_jobs: RealStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at all of them again would take longer with every run."""
    await real_jobs.insert([new_job("many", LONG_FROM)], NOON, OWNER)
    await real_jobs.latest_runs(["many"])
    latest = new_job("many", LONG_FROM + 1)
    await real_jobs.insert([latest], NOON, OWNER)

    looked_at_all = AsyncMock()
    monkeypatch.setattr(real_jobs, "_latest_of", looked_at_all)

    assert await real_jobs.latest_runs(["many"]) == {"many": run_of(latest)}
    looked_at_all.assert_not_called()


async def test_second_job_with_a_run_number_is_refused(jobs: Store) -> None:
    """The loser is named, and is not there; its batch is."""
    first, second, other = new_job(), new_job(), new_job("another")

    assert await jobs.insert([first], NOON, OWNER) == set()
    assert await jobs.insert([second, other], NOON, OWNER) == {second.job_id}

    stored = await jobs.get([job.job_id for job in (first, second, other)])
    assert set(stored) == {first.job_id, other.job_id}


async def test_two_jobs_of_one_batch_cannot_share_a_run(jobs: Store) -> None:
    """Also when they come together."""
    pair = [new_job(), new_job()]

    lost = await jobs.insert(pair, NOON, OWNER)

    assert len(lost) == 1
    assert set(await jobs.get([job.job_id for job in pair])) == {job.job_id for job in pair} - lost


async def test_concurrent_writers_have_one_winner(jobs: Store) -> None:
    """Fifty at once, each in a command of its own."""
    runners = [new_job() for _ in range(50)]

    losers = await asyncio.gather(*(jobs.insert([job], NOON, OWNER) for job in runners))

    assert sorted(map(len, losers)) == [0] + [1] * 49
    assert len(await jobs.get([job.job_id for job in runners])) == 1


async def test_an_insert_may_be_repeated(jobs: Store) -> None:
    """As after an answer that was lost: it is the same job, and has won."""
    job, other = new_job(), new_job("another")
    await jobs.insert([job], NOON, OWNER)

    assert await jobs.insert([job, other], NOON, OWNER) == set()

    assert len(await jobs.get([job.job_id, other.job_id])) == 2


@pytest.mark.parametrize(
    "object_id", ["$ne", "$where", "a.b", "", "ünï", "😀" * 256, "\u2028", "a'b\"c", "{}", "__proto__"]
)
async def test_object_ids_are_data(jobs: Store, object_id: str) -> None:
    """None of them is an operator, a path or another spelling of itself."""
    job = new_job(object_id)

    await jobs.insert([job], NOON, OWNER)

    assert await jobs.latest_runs([object_id]) == {object_id: run_of(job)}
    assert (await jobs.get([job.job_id]))[job.job_id].object_id == object_id


async def test_longest_due_jobs_come_first(jobs: Store) -> None:
    """Up to the given time, that included, and no more than asked for."""
    waiting = [new_job(str(number)) for number in range(5)]
    for number in (3, 0, 4, 1, 2):
        await jobs.insert([waiting[number]], NOON + number * SECOND, OWNER)

    assert await jobs.due(NOON + 3 * SECOND, 10) == waiting[:4]
    assert await jobs.due(NOON + 3 * SECOND, 2) == waiting[:2]
    assert await jobs.due(NOON - SECOND, 10) == []


async def test_a_dispatched_job_is_due_later(jobs: Store) -> None:
    """It counts its dispatches; those that come late or twice change nothing."""
    job, other = new_job(), new_job("another")
    await jobs.insert([job, other], NOON, OWNER)
    job_ids = [job.job_id]

    await jobs.mark_dispatched(job_ids, 2, NOON + 9 * SECOND)
    await jobs.mark_dispatched(job_ids, 1, NOON)
    await jobs.mark_dispatched(job_ids, 2, NOON)

    assert await jobs.due(NOON + 8 * SECOND, 10) == [other]
    assert await jobs.due(NOON + 9 * SECOND, 10) == [other, replace(job, dispatches=2)]


async def test_a_first_dispatch_can_be_made_due(jobs: Store) -> None:
    """Only while it is the latest, the job has not ended, and is not overdue."""
    first, again, never, ended = (replace(new_job(str(number)), dispatches=number) for number in (1, 2, 0, 1))
    ended = replace(ended, job_id=str(uuid.uuid4()), object_id="ended")
    overdue = replace(first, job_id=str(uuid.uuid4()), object_id="overdue")
    everyone = [first, again, never, ended, overdue]
    await jobs.insert(everyone[:-1], NOON + 9 * SECOND, OWNER)
    await jobs.insert([overdue], NOON - SECOND, OWNER)
    await jobs.apply(Status.FINISHED, [end(ended)], NOON)

    assert await jobs.make_due([job.job_id for job in everyone], NOON) == 1

    assert await jobs.due(NOON, 10) == [overdue, replace(first, dispatches=0, unanswered_turn=1)]


async def test_unfinished_jobs_can_be_made_due(jobs: Store) -> None:
    """What is due already stays so; what has ended is never due, and what was not published keeps its time."""
    late, soon, ended = (replace(new_job(name), dispatches=1) for name in ("late", "soon", "ended"))
    await jobs.insert([late], NOON - SECOND, OWNER)
    await jobs.insert([soon, ended, new_job("scheduled")], NOON + 100 * SECOND, OWNER)
    await jobs.apply(Status.FINISHED, [end(ended)], NOON)

    assert await jobs.make_all_due(NOON) == 1

    assert await jobs.due(NOON, 10) == [late, soon]


@pytest.mark.parametrize("status", [Status.FINISHED, Status.CANCELLED])
async def test_ending_moves_a_job(jobs: Store, status: Status) -> None:
    """Each gets its own sleep, and is never due again."""
    pair = [new_job("a"), new_job("b")]
    await jobs.insert(pair, NOON, OWNER)

    moved = await jobs.apply(status, [end(pair[0], 17), end(pair[1], 0.25)], NOON)

    assert moved == (2, set())
    stored = await jobs.get([job.job_id for job in pair])
    assert list(map(stored.get, [job.job_id for job in pair])) == [
        replace(pair[0], status=status, sleep_time_used=17),
        replace(pair[1], status=status, sleep_time_used=0.25),
    ]
    assert await jobs.due(NOON + 1000 * SECOND, 10) == []
    await jobs.mark_dispatched([job.job_id for job in pair], 5, NOON)
    assert await jobs.due(NOON + 1000 * SECOND, 10) == []


async def test_first_ending_is_final(jobs: Store) -> None:
    """Neither a repetition nor a contradiction moves the job again."""
    job = new_job()
    await jobs.insert([job], NOON, OWNER)
    assert await jobs.apply(Status.FINISHED, [end(job, 17)], NOON) == (1, set())
    before = await jobs.get([job.job_id])

    assert await jobs.apply(Status.FINISHED, [end(job, 18)], NOON + SECOND) == (0, set())
    assert await jobs.apply(Status.CANCELLED, [end(job, 19)], NOON + SECOND) == (0, set())

    assert await jobs.get([job.job_id]) == before


async def test_first_of_two_endings_in_a_batch_counts(jobs: Store) -> None:
    """It counts as one move, and the unknown job beside it is named."""
    job = new_job()
    await jobs.insert([job], NOON, OWNER)

    answer = await jobs.apply(Status.FINISHED, [end(job, 17), ending_of("x"), end(job, 18)], NOON)

    assert answer == (1, {"x"})
    assert (await jobs.get([job.job_id]))[job.job_id].sleep_time_used == 17


async def test_many_endings_are_applied_at_once(jobs: Store) -> None:
    """Each job gets its own, and the unknown ones among them are named, wherever they stand."""
    many = [new_job(str(number)) for number in range(300)]
    await jobs.insert(many, NOON, OWNER)
    unknown = {str(number) for number in range(0, 300, 50)}
    outcomes = [end(job, number) for number, job in enumerate(many)]
    for number, job_id in enumerate(sorted(unknown)):
        outcomes.insert(number * 60, ending_of(job_id))

    assert await jobs.apply(Status.FINISHED, outcomes, NOON) == (300, unknown)

    stored = await jobs.get([job.job_id for job in many])
    assert [stored[job.job_id].sleep_time_used for job in many] == list(range(300))


async def test_an_update_that_is_refused_is_an_error(real_jobs: RealStore) -> None:
    """The server answers "ok" all the same: taken for done, the outcome would be acknowledged and not be there."""
    one, other = new_job("one"), new_job("other")
    await real_jobs.insert([one, other], NOON, OWNER)

    with pytest.raises(StoreUnavailable) as caught:
        # No outcome is refused at will, but a second run 1 of one object is.
        await real_jobs._mongo.update("jobs", _each([one.job_id], {"object_id": other.object_id}))  # noqa: SLF001

    assert "update refused" in caught.value.args[0]


async def test_concurrent_endings_move_a_job_once(jobs: Store) -> None:
    """Ten finish it and ten cancel it, at once."""
    job = new_job()
    await jobs.insert([job], NOON, OWNER)

    answers = await asyncio.gather(
        *(
            jobs.apply(status, [end(job, number)], NOON)
            for number, status in enumerate([Status.FINISHED, Status.CANCELLED] * 10)
        )
    )

    assert sum(moved for moved, _ in answers) == 1


async def test_dead_letter_may_be_stored_again(jobs: Store) -> None:
    """A repetition is no error, and does not hurt its batch."""
    await jobs.dead_letter([letter("1")])
    await jobs.dead_letter([letter("1"), letter("2", b"x" * 65_536)])


async def test_dead_letters_can_be_read(real_jobs: RealStore, url: str) -> None:
    """Whoever looks finds the bytes and the reason, for thirty days."""
    await real_jobs.dead_letter([letter("1"), letter("1"), letter("2", b"", "empty")])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("dead_letters")
        rows = list(collection.find(sort=[("_id", 1)]))
        assert all(row.pop("at").tzinfo is not None for row in rows)
        assert rows == [
            {"_id": "1", "subject": "job:finished", "data": b"\xff\x00garbage", "reason": "no JSON"},
            {"_id": "2", "subject": "job:finished", "data": b"", "reason": "empty"},
        ]
        assert collection.index_information()["expire"]["expireAfterSeconds"] == 30 * 24 * 3600


async def test_database_time_is_read(jobs: Store) -> None:
    """In a time zone, so that it can be compared."""
    before = datetime.now(UTC) - SECOND

    assert before < (await jobs.server_time()).at < datetime.now(UTC) + SECOND
