"""Which requests become jobs of a kind, on fakes that fail on demand."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_server.errors import BadInput, IdempotencyMismatch, TooSoonError, UnknownKind
from api_server.submission import Request, Submitted
from hasty.ids import partition_of_id, partition_of_key
from hasty.jobs import Job, Kind, Status, place_of
from hasty.server.messaging.events import decode_turn
from hasty.server.messaging.topology import work_durable
from hasty.server.mongo import StoreUnavailable
from tests.eventually import eventually
from tests.fakes import Fate
from tests.unit.api_server.v1_world import FETCH, GREET, V1World, World, schema


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def v1(world: World) -> V1World:
    """An api-server in it."""
    return world.v1()


def asked(kind: Kind | str = GREET, more: dict[str, Any] | None = None, **given: object) -> Request:
    """A request for a job with this input."""
    name = kind if isinstance(kind, str) else kind.name
    return Request(name, json.dumps(given), given, **(more or {}))


def repeatable(key: str, body_hash: str = "a hash", kind: Kind = GREET, **given: Any) -> Request:
    """A request with an idempotency key."""
    return replace(asked(kind, **given), idempotency=(key, body_hash))


async def job_id_of(submitting: Any) -> str:
    """The id of the job that was made."""
    submitted: Submitted = await submitting
    return submitted.record.job.job_id


async def test_job_of_a_kind_is_stored_and_dispatched(world: World, v1: V1World) -> None:
    """With its input as it came, on the subject of its kind, and with what only it has."""
    await world.announced(v1, GREET)
    submitted = await v1.submission.submit(asked(GREET, {"labels": ("a",), "attempts": 5}, name="Ada"))
    await v1.server.outbox.finish()

    job = submitted.record.job
    assert world.store.jobs[job.job_id] == job
    [delivery] = world.broker.take(work_durable("greet"), 10)
    turn = decode_turn(delivery.subject, delivery.data)
    assert turn == job.turn
    assert turn.task is not None
    assert (turn.task.input, turn.task.labels, turn.task.attempts) == ('{"name": "Ada"}', ("a",), 5)
    assert turn.task.versions == ("v1",)


async def test_unknown_kind_is_refused_with_the_nearest_name(world: World, v1: V1World) -> None:
    """It may be a typing error."""
    await world.announced(v1, GREET)
    with pytest.raises(UnknownKind) as caught:
        await v1.submission.submit(asked("gret", name="Ada"))
    assert caught.value.nearest == "greet"
    assert not world.store.jobs


async def test_kind_announced_a_moment_ago_is_known(world: World, v1: V1World) -> None:
    """Another api-server has stored it: it is looked for before it is refused."""
    await world.announced(world.v1(), GREET)
    assert (await v1.submission.submit(asked(GREET, name="Ada"))).record.job.task is not None


async def test_input_that_fits_no_version_is_refused(world: World, v1: V1World) -> None:
    """Each problem has its place in the input."""
    await world.announced(v1, replace(GREET, input_schema=schema(name="string", age="integer")))
    with pytest.raises(BadInput) as caught:
        await v1.submission.submit(asked(GREET, name=1, age="x"))
    assert {problem.pointer for problem in caught.value.problems} == {"/name", "/age"}


async def test_any_known_version_may_take_an_input(world: World, v1: V1World) -> None:
    """The job names those that do, so that only they are given it."""
    old, new = GREET, replace(GREET, version="v2", input_schema=schema(name="string", age="integer"))
    await world.announced(v1, old)
    world.pass_time(timedelta(minutes=1))
    await world.announced(v1, new)

    for values, versions in (({"name": "Ada"}, ("v1",)), ({"name": "Ada", "age": 3}, ("v2", "v1"))):
        task = (await v1.submission.submit(asked(GREET, **values))).record.job.task
        assert task is not None
        assert task.versions == versions


async def test_key_holds_its_place_while_its_job_is_processing(world: World, v1: V1World) -> None:
    """Also when the cooldown is long over; afterwards until the cooldown is."""
    await world.announced(v1, FETCH)
    first = await job_id_of(v1.submission.submit(asked(FETCH, url="u")))
    assert world.store.jobs[first].object_id == place_of("fetch", "u", first)
    world.pass_time(timedelta(seconds=61))

    with pytest.raises(TooSoonError) as caught:
        await v1.submission.submit(asked(FETCH, url="u"))
    assert (caught.value.decision.job_id, caught.value.decision.processing) == (first, True)
    await v1.submission.submit(asked(FETCH, url="another"))

    await world.end(v1, first)
    second = await job_id_of(v1.submission.submit(asked(FETCH, url="u")))
    await world.end(v1, second)
    with pytest.raises(TooSoonError) as caught:
        await v1.submission.submit(asked(FETCH, url="u"))
    assert (caught.value.decision.job_id, caught.value.decision.retry_after_s) == (second, 60)


async def test_jobs_without_a_key_do_not_meet(world: World, v1: V1World) -> None:
    """Each has a place of its own."""
    await world.announced(v1, GREET)
    ids = await asyncio.gather(*(job_id_of(v1.submission.submit(asked(GREET, name="Ada"))) for _ in range(20)))
    assert len(set(ids)) == len(world.store.jobs) == 20


async def test_missing_member_of_the_key_is_bad_input(world: World, v1: V1World) -> None:
    """A schema may not require what the key is made of."""
    await world.announced(v1, replace(FETCH, input_schema="{}"))
    with pytest.raises(BadInput) as caught:
        await v1.submission.submit(asked(FETCH))
    assert [problem.pointer for problem in caught.value.problems] == ["/url"]


async def test_delayed_job_is_not_dispatched_before_its_time(world: World, v1: V1World) -> None:
    """Not by a sweep either; then by the first one after it."""
    await world.announced(v1, GREET)
    record = (await v1.submission.submit(asked(GREET, {"delay_s": 90}, name="Ada"))).record
    assert record.dispatch_due == world.time + timedelta(seconds=90)
    for seconds, found in ((89, 0), (1, 1)):
        world.pass_time(timedelta(seconds=seconds))
        await v1.server.outbox.sweep()
        assert len(world.broker.take(work_durable("greet"), 10)) == found


async def test_root_kind_is_what_post_makes(world: World, v1: V1World) -> None:
    """Both ways share the object's cooldown, and there is nothing but the object id."""
    job_id = await job_id_of(v1.submission.submit(asked("sleep", object_id="x")))
    job = world.store.jobs[job_id]
    assert (job.object_id, job.task, job.is_root) == ("x", None, True)
    with pytest.raises(TooSoonError):
        await v1.server.submit("x")
    for wrong in (asked("sleep"), asked("sleep", object_id="\n"), asked("sleep", {"attempts": 2}, object_id="y")):
        with pytest.raises(BadInput):
            await v1.submission.submit(wrong)


async def test_job_id_names_the_partition_of_its_place(world: World, v1: V1World) -> None:
    """So that a key's jobs are in one cell."""
    await world.announced(v1, FETCH)
    job_id = await job_id_of(v1.submission.submit(asked(FETCH, url="u")))
    assert partition_of_id(job_id) == partition_of_key(place_of("fetch", "u", ""))


# -- idempotency keys ---------------------------------------------------------------------------------------------


async def test_same_request_gets_the_same_job(world: World, v1: V1World) -> None:
    """At any api-server, and also when the job has ended."""
    await world.announced(v1, GREET)
    first = await v1.submission.submit(repeatable("k", name="Ada"))
    await world.end(v1, first.record.job.job_id)
    again = await world.v1().submission.submit(repeatable("k", name="Ada"))

    assert (first.replayed, again.replayed) == (False, True)
    assert again.record.job.job_id == first.record.job.job_id
    assert again.record.job.status is Status.FINISHED
    assert len(world.store.jobs) == 1


async def test_key_of_another_body_is_a_mismatch(world: World, v1: V1World) -> None:
    """Whether it came earlier or at the same moment."""
    await world.announced(v1, GREET)
    results = await asyncio.gather(
        v1.submission.submit(repeatable("k", "one", name="Ada")),
        v1.submission.submit(repeatable("k", "another", name="Bob")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Submitted, IdempotencyMismatch]
    with pytest.raises(IdempotencyMismatch):
        await v1.submission.submit(repeatable("k", "another", name="Bob"))
    assert len(world.store.jobs) == 1


async def test_repetition_after_a_crash_makes_the_job(world: World, v1: V1World) -> None:
    """Between the claim and the insert nothing else was stored: the job gets the id that was chosen."""
    await world.announced(v1, GREET)
    world.store.fate = lambda method: Fate.LOST if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await v1.submission.submit(repeatable("k", name="Ada"))
    world.store.fate = lambda _: Fate.STORED

    made = await world.v1().submission.submit(repeatable("k", name="Ada"))
    assert made.record.job.job_id == world.request_store.claims["k"].job_id
    assert list(world.store.jobs) == [made.record.job.job_id]


async def test_lost_answer_is_found_under_the_same_key(world: World, v1: V1World) -> None:
    """The job was stored, and only the answer got lost: one job, which the repetition names."""
    await world.announced(v1, FETCH)
    world.store.fate = lambda method: Fate.UNANSWERED if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await v1.submission.submit(repeatable("k", kind=FETCH, url="u"))
    world.store.fate = lambda _: Fate.STORED

    again = await v1.submission.submit(repeatable("k", kind=FETCH, url="u"))
    assert again.replayed
    assert list(world.store.jobs) == [again.record.job.job_id]


async def test_request_meets_its_own_job(world: World, v1: V1World) -> None:
    """Another api-server stores it in the moment between two look-ups: it is no other job that has the key."""
    await world.announced(v1, FETCH)
    world.store.fate = lambda method: Fate.LOST if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await v1.submission.submit(repeatable("k", kind=FETCH, url="u"))
    job_id = world.request_store.claims["k"].job_id

    def store_elsewhere(method: str) -> Fate:
        if method == "latest_runs":
            world.store.jobs[job_id] = Job(job_id, place_of("fetch", "u", job_id), 1, world.time)
        return Fate.STORED

    world.store.fate = store_elsewhere
    again = await world.v1().submission.submit(repeatable("k", kind=FETCH, url="u"))
    assert (again.replayed, again.record.job.job_id) == (True, job_id)


async def test_refused_request_may_be_repeated_later(world: World, v1: V1World) -> None:
    """A refusal made no job: the same request is decided anew."""
    await world.announced(v1, FETCH)
    first = await job_id_of(v1.submission.submit(asked(FETCH, url="u")))
    with pytest.raises(TooSoonError):
        await v1.submission.submit(repeatable("k", kind=FETCH, url="u"))
    await world.end(v1, first)
    world.pass_time(timedelta(seconds=61))
    assert not (await v1.submission.submit(repeatable("k", kind=FETCH, url="u"))).replayed


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "k", "l"])), min_size=1, max_size=12),
    fates=st.lists(st.sampled_from([*[Fate.STORED] * 6, Fate.LOST, Fate.UNANSWERED]), max_size=12),
)
async def test_one_place_never_has_two_open_jobs(requests: list[tuple[str, str]], fates: list[Fate]) -> None:
    """Two api-servers, any of whose calls may fail: nobody is told of a job that does not exist."""
    world = World()
    servers = [world.v1(), world.v1()]
    await world.announced(servers[0], FETCH)
    left = iter(fates)
    world.store.fate = lambda method: next(left, Fate.STORED) if method == "insert" else Fate.STORED
    submitting = [
        servers[n % 2].submission.submit(
            repeatable(f"{key}{url}", kind=FETCH, url=url) if key else asked(FETCH, url=url)
        )
        for n, (url, key) in enumerate(requests)
    ]
    results = await asyncio.gather(*submitting, return_exceptions=True)

    places = [job.object_id for job in world.store.jobs.values()]
    assert len(places) == len(set(places))
    for result in results:
        match result:
            case Submitted():
                assert result.record.job.job_id in world.store.jobs
            case TooSoonError():
                assert result.decision.job_id in world.store.jobs
            case _:
                assert isinstance(result, StoreUnavailable)


async def test_requests_that_come_together_share_one_look_up(world: World, v1: V1World) -> None:
    """And one insert: a batch instead of one call per job."""
    await world.announced(v1, FETCH)
    calls: list[str] = []
    world.store.fate = _noted(calls)
    await asyncio.gather(*(v1.submission.submit(asked(FETCH, url=str(n))) for n in range(50)))
    await eventually(lambda: len(world.store.jobs) == 50)
    assert (calls.count("latest_runs"), calls.count("insert")) == (1, 1)


def _noted(calls: list[str]) -> Callable[[str], Fate]:
    def fate(method: str) -> Fate:
        calls.append(method)
        return Fate.STORED

    return fate
