"""Which requests become jobs, on fakes that fail on demand."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_server import admission, queries
from api_server.domain import TooSoon
from api_server.errors import TooSoonError
from hasty.jobs import Status
from hasty.server.mongo import StoreUnavailable
from tests.fakes import Fate
from tests.unit.api_server.world import ApiServer, World


async def test_submitted_job_is_stored_and_dispatched(world: World, api_server: ApiServer) -> None:
    """Once, with its own id, and can be found."""
    job_id = await api_server.submit("x")
    await api_server.outbox.finish()

    job = await api_server.find(job_id)
    assert job is not None
    assert (job.object_id, job.run, job.status) == ("x", 1, Status.PROCESSING)
    assert job.created_at == world.time
    assert world.published() == [job_id]
    assert await api_server.find(str(uuid.uuid4())) is None


async def test_same_object_waits_for_the_cooldown(world: World, api_server: ApiServer) -> None:
    """The refusal names the job and the time that is left; afterwards the next run is admitted."""
    first = await api_server.submit("x")
    world.pass_time(timedelta(seconds=299))

    with pytest.raises(TooSoonError) as caught:
        await api_server.submit("x")
    assert caught.value.decision == TooSoon(first, 1)

    world.pass_time(timedelta(seconds=1))
    second = await api_server.submit("x")
    job = await api_server.find(second)
    assert job is not None
    assert job.run == 2


@settings(max_examples=60, deadline=None)
@given(wishes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=40))
async def test_concurrent_requests_get_one_job_per_object(wishes: list[tuple[str, int]]) -> None:
    """Over three api-servers that do not know of each other, whatever arrives where."""
    world = World()
    api_servers = [world.api_server() for _ in range(3)]

    answers = await asyncio.gather(
        *(api_servers[which].submit(object_id) for object_id, which in wishes), return_exceptions=True
    )

    for name in {object_id for object_id, _ in wishes}:
        its = [answer for (object_id, _), answer in zip(wishes, answers, strict=True) if object_id == name]
        created = [answer for answer in its if isinstance(answer, str)]
        assert len(created) == 1
        refusals = [answer for answer in its if isinstance(answer, TooSoonError)]
        assert len(refusals) == len(its) - 1
        assert {refusal.decision.job_id for refusal in refusals} <= set(created)


async def test_concurrent_requests_share_one_query_and_one_insert(world: World, api_server: ApiServer) -> None:
    """One look-up and one insert for a hundred."""
    calls: list[str] = []
    world.store.fate = lambda method: calls.append(method) or Fate.STORED  # type: ignore[func-returns-value]
    first = asyncio.ensure_future(api_server.submit("the first leaves at once"))

    await asyncio.gather(first, *(api_server.submit(str(number)) for number in range(100)))

    assert calls.count("latest_runs") <= 2
    assert calls.count("insert") <= 2


async def test_unanswered_insert_makes_at_most_one_job(world: World, api_server: ApiServer) -> None:
    """The caller is told to try again, and then where its job is."""
    world.store.fate = lambda method: Fate.UNANSWERED if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await api_server.submit("x")

    world.store.fate = lambda _: Fate.STORED
    with pytest.raises(TooSoonError) as caught:
        await api_server.submit("x")

    assert list(world.store.jobs) == [caught.value.decision.job_id]


async def test_requests_fail_while_the_database_is_down(world: World, api_server: ApiServer) -> None:
    """Those who ask together as well; it passes with the outage."""
    world.store.up = False
    answers = await asyncio.gather(
        api_server.submit("x"), api_server.submit("y"), api_server.find("z"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3

    world.store.up = True
    assert await api_server.submit("x")


async def test_request_that_waits_too_long_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever hangs, in the words of the contract: who asks for a job, and who asks about one."""
    for module in (admission, queries):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.02)
    api_server = world.api_server()
    never = asyncio.Event()
    monkeypatch.setattr(world.store, "latest_runs", lambda _: never.wait())
    monkeypatch.setattr(world.store, "get", lambda _: never.wait())

    answers = await asyncio.gather(api_server.submit("x"), api_server.find("y"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2


async def test_cancelled_request_does_not_affect_others(api_server: ApiServer) -> None:
    """Neither while it waits nor while its batch is under way."""
    tasks = [asyncio.ensure_future(api_server.submit(str(number))) for number in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(answer, str) for answer in answers[1::2])


def unknown_time(world: World) -> Callable[[], datetime]:
    """A clock of an api-server whose database has not told its time."""

    def now() -> datetime:
        if not world.store.up:
            raise StoreUnavailable("the database has not told its time yet")
        return world.time

    return now


async def test_requests_fail_while_the_time_is_unknown(world: World) -> None:
    """An api-server that cannot know the time says so, and works when it does."""
    api_server = world.api_server(now=unknown_time(world))
    world.store.up = False
    with pytest.raises(StoreUnavailable):
        await api_server.submit("x")
    with pytest.raises(StoreUnavailable):
        await api_server.outbox.sweep()

    world.store.up = True
    assert await api_server.submit("x")
