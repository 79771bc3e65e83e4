"""What the api-server relies on in its database, on the fake and on a real server alike."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_server.domain import Job, Lease, Outcome, Run, Status
from api_server.errors import StoreUnavailable
from api_server.service import SetAside
from api_server.store import TAKEN_OVER_AT_ONCE, JobStore, _each
from local_stack import Child
from tests.eventually import eventually
from tests.fakes import FakeJobStore
from tests.servers import start

if TYPE_CHECKING:
    from pymongo.collection import Collection

pytestmark = pytest.mark.asyncio(loop_scope="session")

Store = JobStore | FakeJobStore

# Databases keep whole milliseconds.
OWNER = "an api-server"
NOON = datetime(2026, 1, 2, 12, 0, 0, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def new_job(object_id: str = "an object", number: int = 1, created_at: datetime = NOON) -> Job:
    """A job as the service makes it."""
    return Job(Run(object_id, number, str(uuid.uuid4()), created_at))


def end(job: Job, sleep_time_used: float = 20) -> Outcome:
    """The news that a job has ended."""
    return Outcome(job.run.job_id, Status.FINISHED, sleep_time_used)


async def test_a_stored_job_comes_back_as_it_was(jobs: Store) -> None:
    """With its time, in its zone, to the millisecond."""
    job = new_job()

    assert await jobs.insert([job], NOON, OWNER) == set()

    assert await jobs.get([job.run.job_id]) == {job.run.job_id: job}
    assert await jobs.latest_runs(["an object"]) == {"an object": job.run}


async def test_what_is_unknown_is_left_out(jobs: Store) -> None:
    """No error and no None, also in an empty database."""
    assert await jobs.get(["x", "y"]) == {}
    assert await jobs.latest_runs(["x"]) == {}
    assert await jobs.due(NOON, 10) == []
    assert await jobs.make_all_due(NOON) == 0
    await jobs.mark_dispatched(["x"], 1, NOON)
    assert await jobs.apply(Status.FINISHED, [Outcome("x", Status.FINISHED, 1)], NOON) == (0, {"x"})
    assert await jobs.get(["x"]) == {}


async def test_the_latest_run_is_the_one_with_the_highest_number(jobs: Store) -> None:
    """Of many objects at once, whatever the order they came in."""
    runs = [new_job(name, number) for number in (2, 3, 1) for name in ("a", "b", "c")]
    await jobs.insert(runs, NOON, OWNER)

    latest = await jobs.latest_runs(["a", "c", "d"])

    assert {name: run.number for name, run in latest.items()} == {"a": 3, "c": 3}


async def test_one_of_two_jobs_with_one_run_number_loses(jobs: Store) -> None:
    """The loser is named, and is not there; its batch is."""
    first, second, other = new_job(), new_job(), new_job("another")

    assert await jobs.insert([first], NOON, OWNER) == set()
    assert await jobs.insert([second, other], NOON, OWNER) == {second.run.job_id}

    stored = await jobs.get([job.run.job_id for job in (first, second, other)])
    assert set(stored) == {first.run.job_id, other.run.job_id}


async def test_two_of_one_batch_cannot_both_have_the_place(jobs: Store) -> None:
    """Also when they come together."""
    pair = [new_job(), new_job()]

    lost = await jobs.insert(pair, NOON, OWNER)

    assert len(lost) == 1
    assert set(await jobs.get([job.run.job_id for job in pair])) == {job.run.job_id for job in pair} - lost


async def test_a_race_of_many_has_one_winner(jobs: Store) -> None:
    """Fifty at once, each in a command of its own."""
    runners = [new_job() for _ in range(50)]

    losers = await asyncio.gather(*(jobs.insert([job], NOON, OWNER) for job in runners))

    assert sorted(map(len, losers)) == [0] + [1] * 49
    assert len(await jobs.get([job.run.job_id for job in runners])) == 1


async def test_an_insert_may_be_repeated(jobs: Store) -> None:
    """As after an answer that was lost: it is the same job, and has won."""
    job, other = new_job(), new_job("another")
    await jobs.insert([job], NOON, OWNER)

    assert await jobs.insert([job, other], NOON, OWNER) == set()

    assert len(await jobs.get([job.run.job_id, other.run.job_id])) == 2


@pytest.mark.parametrize(
    "object_id", ["$ne", "$where", "a.b", "", "ünï", "😀" * 256, "\u2028", "a'b\"c", "{}", "__proto__"]
)
async def test_object_ids_are_data(jobs: Store, object_id: str) -> None:
    """None of them is an operator, a path or another spelling of itself."""
    job = new_job(object_id)

    await jobs.insert([job], NOON, OWNER)

    assert await jobs.latest_runs([object_id]) == {object_id: job.run}
    assert (await jobs.get([job.run.job_id]))[job.run.job_id].run.object_id == object_id


async def test_what_is_due_comes_longest_due_first(jobs: Store) -> None:
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
    job_ids = [job.run.job_id]

    await jobs.mark_dispatched(job_ids, 2, NOON + 9 * SECOND)
    await jobs.mark_dispatched(job_ids, 1, NOON)
    await jobs.mark_dispatched(job_ids, 2, NOON)

    assert await jobs.due(NOON + 8 * SECOND, 10) == [other]
    assert await jobs.due(NOON + 9 * SECOND, 10) == [other, replace(job, dispatches=2)]


async def test_a_first_dispatch_can_be_made_due(jobs: Store) -> None:
    """Only while it is the latest, the job has not ended, and is not overdue."""
    first, again, never, ended = (replace(new_job(str(number)), dispatches=number) for number in (1, 2, 0, 1))
    ended = replace(ended, run=new_job("ended").run)
    overdue = replace(first, run=new_job("overdue").run)
    everyone = [first, again, never, ended, overdue]
    await jobs.insert(everyone[:-1], NOON + 9 * SECOND, OWNER)
    await jobs.insert([overdue], NOON - SECOND, OWNER)
    await jobs.apply(Status.FINISHED, [end(ended)], NOON)

    assert await jobs.make_due([job.run.job_id for job in everyone], NOON) == 1

    assert await jobs.due(NOON, 10) == [overdue, replace(first, dispatches=0)]


async def test_a_lease_is_abandoned_when_it_was_not_renewed(jobs: Store) -> None:
    """The oldest comes first; a lease that was renewed since cannot be forgotten."""
    old, older, young = (Lease(name, NOON - age * SECOND, NOON) for name, age in (("a", 6), ("b", 7), ("c", 5)))
    for lease in (old, older, young):
        await jobs.renew(lease)
    assert await jobs.abandoned(NOON - 5 * SECOND) == [older, old]

    renewed = replace(older, renewed_at=NOON, watermark=NOON + SECOND)
    await jobs.renew(renewed)
    await jobs.forget(older)
    await jobs.forget(old)

    assert await jobs.abandoned(NOON + SECOND) == [young, renewed]


async def test_the_jobs_of_a_lease_can_be_taken_over(jobs: Store) -> None:
    """From its watermark on, and its owner's only; not those whose dispatch was marked meanwhile."""
    settled, theirs, mine, late = (replace(new_job(name), dispatches=1) for name in ("a", "b", "c", "d"))
    await jobs.insert([settled], NOON + 9 * SECOND, OWNER)
    await jobs.insert([theirs], NOON + 11 * SECOND, "another")
    await jobs.insert([mine], NOON + 12 * SECOND, OWNER)
    await jobs.insert([late], NOON + 13 * SECOND, OWNER)

    assert await jobs.take_over(Lease(OWNER, NOON, NOON + 10 * SECOND), NOON, NOON + 13 * SECOND) == 1

    assert await jobs.due(NOON, 10) == [replace(mine, dispatches=0)]


async def test_thousands_of_jobs_can_be_taken_over(real_jobs: JobStore) -> None:
    """Page by page, also past a page of others' jobs that are all due at one moment."""
    moment = NOON + 60 * SECOND
    for due, owner, count in (
        (moment, "another", TAKEN_OVER_AT_ONCE),
        (moment + timedelta(milliseconds=1), OWNER, TAKEN_OVER_AT_ONCE + 7),
    ):
        jobs = [replace(new_job(f"{owner} {number}"), dispatches=1) for number in range(count)]
        for first in range(0, count, 500):
            await real_jobs.insert(jobs[first : first + 500], due, owner)

    taken = await real_jobs.take_over(Lease(OWNER, NOON, NOON + 10 * SECOND), NOON, NOON + 99 * SECOND)

    assert taken == TAKEN_OVER_AT_ONCE + 7
    assert len(await real_jobs.due(NOON, 3 * TAKEN_OVER_AT_ONCE)) == TAKEN_OVER_AT_ONCE + 7


async def test_everything_unfinished_can_be_made_due(jobs: Store) -> None:
    """What is due already stays due since when it was; what has ended is never due."""
    late, soon, ended = new_job("late"), new_job("soon"), new_job("ended")
    await jobs.insert([late], NOON - SECOND, OWNER)
    await jobs.insert([soon, ended], NOON + 100 * SECOND, OWNER)
    await jobs.apply(Status.FINISHED, [end(ended)], NOON)

    assert await jobs.make_all_due(NOON) == 1

    assert await jobs.due(NOON, 10) == [late, soon]


@pytest.mark.parametrize("status", [Status.FINISHED, Status.CANCELLED])
async def test_an_outcome_ends_a_job(jobs: Store, status: Status) -> None:
    """Each gets its own sleep, and is never due again."""
    pair = [new_job("a"), new_job("b")]
    await jobs.insert(pair, NOON, OWNER)

    moved = await jobs.apply(status, [end(pair[0], 17), end(pair[1], 0.25)], NOON)

    assert moved == (2, set())
    stored = await jobs.get([job.run.job_id for job in pair])
    assert list(map(stored.get, [job.run.job_id for job in pair])) == [
        replace(pair[0], status=status, sleep_time_used=17),
        replace(pair[1], status=status, sleep_time_used=0.25),
    ]
    assert await jobs.due(NOON + 1000 * SECOND, 10) == []
    await jobs.mark_dispatched([job.run.job_id for job in pair], 5, NOON)
    assert await jobs.due(NOON + 1000 * SECOND, 10) == []


async def test_the_first_outcome_stands_for_ever(jobs: Store) -> None:
    """Neither a repetition nor a contradiction moves the job again."""
    job = new_job()
    await jobs.insert([job], NOON, OWNER)
    assert await jobs.apply(Status.FINISHED, [end(job, 17)], NOON) == (1, set())
    before = await jobs.get([job.run.job_id])

    assert await jobs.apply(Status.FINISHED, [end(job, 18)], NOON + SECOND) == (0, set())
    assert await jobs.apply(Status.CANCELLED, [end(job, 19)], NOON + SECOND) == (0, set())

    assert await jobs.get([job.run.job_id]) == before


async def test_of_two_outcomes_in_one_batch_the_first_stands(jobs: Store) -> None:
    """It counts as one move, and the unknown job beside it is named."""
    job = new_job()
    await jobs.insert([job], NOON, OWNER)

    answer = await jobs.apply(Status.FINISHED, [end(job, 17), Outcome("x", Status.FINISHED, 1), end(job, 18)], NOON)

    assert answer == (1, {"x"})
    assert (await jobs.get([job.run.job_id]))[job.run.job_id].sleep_time_used == 17


async def test_any_number_of_outcomes_may_come_at_once(jobs: Store) -> None:
    """Each job gets its own, and the unknown ones among them are named, wherever they stand."""
    many = [new_job(str(number)) for number in range(300)]
    await jobs.insert(many, NOON, OWNER)
    unknown = {str(number) for number in range(0, 300, 50)}
    outcomes = [end(job, number) for number, job in enumerate(many)]
    for number, job_id in enumerate(sorted(unknown)):
        outcomes.insert(number * 60, Outcome(job_id, Status.FINISHED, 1))

    assert await jobs.apply(Status.FINISHED, outcomes, NOON) == (300, unknown)

    stored = await jobs.get([job.run.job_id for job in many])
    assert [stored[job.run.job_id].sleep_time_used for job in many] == list(range(300))


async def test_an_update_that_is_refused_is_an_error(real_jobs: JobStore) -> None:
    """The server answers "ok" all the same: taken for done, the outcome would be acknowledged and not be there."""
    one, other = new_job("one"), new_job("other")
    await real_jobs.insert([one, other], NOON, OWNER)

    with pytest.raises(StoreUnavailable) as caught:
        # No outcome is refused at will, but a second run 1 of one object is.
        await real_jobs._update(_each([one.run.job_id], {"object_id": other.run.object_id}))  # noqa: SLF001

    assert "update refused" in caught.value.reason


async def test_racing_outcomes_move_a_job_once(jobs: Store) -> None:
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


def _aside(key: str, data: bytes = b"\xff\x00garbage", reason: str = "no JSON") -> SetAside:
    return SetAside(key, "job:finished", data, reason, NOON)


async def test_messages_are_set_aside_once(jobs: Store) -> None:
    """A repetition is no error, and does not hurt its batch."""
    await jobs.set_aside([_aside("1")])
    await jobs.set_aside([_aside("1"), _aside("2", b"x" * 65_536)])


async def test_messages_set_aside_can_be_read(real_jobs: JobStore, url: str) -> None:
    """Whoever looks finds the bytes and the reason, for thirty days."""
    await real_jobs.set_aside([_aside("1"), _aside("1"), _aside("2", b"", "empty")])

    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database().get_collection("set_aside")
        assert list(collection.find(sort=[("_id", 1)])) == [
            {"_id": "1", "subject": "job:finished", "data": b"\xff\x00garbage", "reason": "no JSON", "at": NOON},
            {"_id": "2", "subject": "job:finished", "data": b"", "reason": "empty", "at": NOON},
        ]
        assert collection.index_information()["forget"]["expireAfterSeconds"] == 30 * 24 * 3600


async def test_the_database_tells_its_time(jobs: Store) -> None:
    """In a time zone, so that it can be compared."""
    before = datetime.now(UTC) - SECOND

    assert before < await jobs.server_time() < datetime.now(UTC) + SECOND


class _Outage:
    """Takes either database away and brings it back."""

    def __init__(self, jobs: Store, server: Child) -> None:
        self._fake = jobs if isinstance(jobs, FakeJobStore) else None
        self._server = server

    async def begin(self) -> None:
        if self._fake:
            self._fake.up = False
        else:
            await self._server.stay_down()

    async def end(self) -> None:
        if self._fake:
            self._fake.up = True
        else:
            await start(self._server)


@pytest.fixture
def outage(jobs: Store, server: Child) -> _Outage:
    """An outage of the database at hand."""
    return _Outage(jobs, server)


async def test_an_outage_is_told_in_time_and_ends_by_itself(jobs: Store, outage: _Outage) -> None:
    """Every method says so within three seconds; what was stored is still there afterwards."""
    job, other = new_job(), new_job("another")
    await jobs.insert([job], NOON, OWNER)
    await outage.begin()
    try:
        # Not all at once: what waits for one of motor's threads has its first try when the outage is over.
        for asked in (
            (
                jobs.ping,
                jobs.server_time,
                lambda: jobs.latest_runs(["an object"]),
                lambda: jobs.insert([other], NOON, OWNER),
                lambda: jobs.get([job.run.job_id]),
            ),
            (
                lambda: jobs.due(NOON, 1),
                lambda: jobs.mark_dispatched([job.run.job_id], 1, NOON),
                lambda: jobs.make_all_due(NOON),
                lambda: jobs.make_due([job.run.job_id], NOON),
                lambda: jobs.apply(Status.FINISHED, [end(job)], NOON),
            ),
            (
                lambda: jobs.renew(Lease(OWNER, NOON, NOON)),
                lambda: jobs.abandoned(NOON),
                lambda: jobs.take_over(Lease(OWNER, NOON, NOON), NOON, NOON),
                lambda: jobs.forget(Lease(OWNER, NOON, NOON)),
                lambda: jobs.set_aside([_aside("1")]),
            ),
        ):
            async with asyncio.timeout(3):
                answers = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
    finally:
        await outage.end()

    async def stored() -> bool:
        try:
            return await jobs.get([job.run.job_id]) == {job.run.job_id: job}
        except StoreUnavailable:
            return False

    await eventually(stored)
    assert await jobs.insert([new_job()], NOON, OWNER) != set()


async def test_a_database_that_was_emptied_judges_as_before(real_jobs: JobStore, server: Child) -> None:
    """The indexes come back under the running service: without them the race would have two winners."""
    await real_jobs.insert([new_job()], NOON, OWNER)
    await server.stay_down()
    with pytest.raises(StoreUnavailable):
        await real_jobs.ping()
    server.wipe()
    await start(server)

    async def inserted() -> bool:
        try:
            return await real_jobs.insert([new_job()], NOON, OWNER) == set()
        except StoreUnavailable:
            return False

    await eventually(inserted)
    assert len(await real_jobs.insert([new_job()], NOON, OWNER)) == 1


async def test_an_address_that_is_none_is_refused_without_repeating_it() -> None:
    """A URL may hold a password."""
    with pytest.raises(ValueError, match="Port must be") as caught:
        async with JobStore.opened("mongodb://user:s3cret@host:99999999/x"):
            pass
    assert "s3cret" not in str(caught.value)


# Everything the service can ask, in any order, about a few objects and jobs, so that they meet.
_OBJECTS = st.sampled_from(["a", "b"])
_TIMES = st.integers(0, 5).map(lambda seconds: NOON + seconds * SECOND)
_NUMBERS = st.integers(1, 3)
_JOBS = st.builds(
    lambda object_id, number, which, dispatches: Job(
        Run(object_id, number, f"{object_id}{number}{which}", NOON), dispatches=dispatches
    ),
    _OBJECTS,
    _NUMBERS,
    st.integers(0, 1),
    st.integers(0, 1),
)
_IDS = _JOBS.map(lambda job: job.run.job_id)
_OWNERS = st.sampled_from(["one", "two"])
_LEASES = st.builds(Lease, _OWNERS, _TIMES, _TIMES)
_OUTCOMES = st.builds(Outcome, _IDS, st.just(Status.FINISHED), st.integers(0, 45))
_STEPS = st.one_of(
    st.tuples(
        st.just("insert"),
        st.lists(_JOBS, min_size=1, max_size=4, unique_by=lambda j: j.run.job_id),
        _TIMES,
        _OWNERS,
    ),
    st.tuples(st.just("latest_runs"), st.lists(_OBJECTS, min_size=1, unique=True)),
    st.tuples(st.just("get"), st.lists(_IDS, unique=True)),
    st.tuples(st.just("mark_dispatched"), st.lists(_IDS, unique=True), _NUMBERS, _TIMES),
    st.tuples(st.just("make_all_due"), _TIMES),
    st.tuples(st.just("make_due"), st.lists(_IDS, unique=True), _TIMES),
    st.tuples(st.just("renew"), _LEASES),
    st.tuples(st.just("forget"), _LEASES),
    st.tuples(st.just("abandoned"), _TIMES),
    st.tuples(st.just("take_over"), _LEASES, _TIMES, _TIMES),
    st.tuples(
        st.just("apply"),
        st.sampled_from([Status.FINISHED, Status.CANCELLED]),
        st.lists(_OUTCOMES, min_size=1, max_size=4),
        _TIMES,
    ),
    # Without a limit that cuts through jobs that are due at the same moment: their order is nobody's promise.
    st.tuples(st.just("due"), _TIMES, st.just(100)),
)


def _comparable(answer: object) -> object:
    """Jobs that are due at the same moment, and leases of the same moment, may come in any order."""
    if isinstance(answer, list):
        return sorted(answer, key=str)
    return answer


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=25))
async def test_the_fake_answers_as_the_real_one(server: Child, steps: list[tuple[str, ...]]) -> None:
    """Whatever is asked in whatever order."""
    fake = FakeJobStore()
    async with JobStore.opened(f"mongodb://{server.address}/test_{uuid.uuid4().hex}") as real:
        for name, *arguments in steps:
            expected = await getattr(fake, name)(*arguments)
            assert _comparable(await getattr(real, name)(*arguments)) == _comparable(expected), (name, arguments)
