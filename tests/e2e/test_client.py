"""The client on a running system: every method, and restarts of everything behind it in the middle of a call."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hasty.client import (
    AsyncHasty,
    BadInput,
    Hasty,
    IdempotencyMismatch,
    Job,
    JobFailed,
    KeyTaken,
    NewJob,
    NoSuchJob,
    StillProcessing,
    UnknownKind,
    WaitTimeout,
)
from hasty.server.local_stack import Stack
from tests.e2e.stacks import running, services
from tests.e2e.work import flaky, greet, long_async, resize, thumb
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.own_stack]

WORK = Path(__file__).with_name("work.py")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A system with handlers."""
    async with running(tmp_path_factory.mktemp("client"), environment={"HASTY_WORK": str(WORK)}) as stack:
        async with AsyncHasty(stack.url) as client:

            async def announced() -> bool:
                return {"greet", "thumb"} <= {kind.name for kind in await client.kinds() if kind.workers}

            await eventually(announced, within_s=30)
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[AsyncHasty]:
    """A client for asyncio."""
    async with AsyncHasty(stack.url) as client:
        yield client


@pytest.fixture
def blocking(stack: Stack) -> Iterator[Hasty]:
    """A client that blocks: it is used in threads."""
    with Hasty(stack.url) as client:
        yield client


async def test_job_is_submitted_and_waited_for(client: AsyncHasty, blocking: Hasty) -> None:
    """By the name of its kind, by its handler, and with either client."""
    named = await client.submit("greet", name="Ada")
    assert (await client.wait(named)).result() == "hello Ada"
    handler = await client.submit(greet, name="Bob")
    assert (await client.wait(handler.id, timeout_s=30)).result() == "hello Bob"
    program = await asyncio.to_thread(blocking.submit, thumb, url="u")
    assert (await asyncio.to_thread(blocking.wait, program)).output == {"url": "u"}
    assert await client.get(named) == await client.wait(named)


async def test_options_are_those_of_the_job(client: AsyncHasty) -> None:
    """Delay, labels, attempts; the same request under the same name makes one job."""
    made = client.with_options(delay_s=3600, labels=["later", "x"], attempts=7, idempotency_key="once")
    first, second = await made.submit(greet, name="Ada"), await made.submit(greet, name="Ada")
    assert (first.id, first.phase, first.labels, first.attempts) == (second.id, "scheduled", ("later", "x"), 7)
    with pytest.raises(IdempotencyMismatch):
        await made.submit(greet, name="Bob")
    with pytest.raises(WaitTimeout, match="as requested") as caught:
        await client.wait(first, timeout_s=1)
    assert caught.value.job.id == first.id
    with pytest.raises(StillProcessing):
        await client.retry(first)
    await client.cancel(first)
    assert (await client.wait(first)).status == "cancelled"


async def test_failed_job_says_why_and_is_repeated(client: AsyncHasty) -> None:
    """As a new job, once, however often it is asked for under one name."""
    failed = await client.wait(await client.with_options(attempts=1).submit(flaky, fails=1))
    with pytest.raises(JobFailed, match="exception: attempt 1"):
        failed.result()
    assert [event.event for event in await client.timeline(failed)] == ["created", "started", "failed"]
    made = client.with_options(idempotency_key="again")
    first, second = await made.retry(failed), await made.retry(failed)
    assert (first.id, first.retry_of) == (second.id, failed.id)


async def test_refusals_are_errors_with_their_reasons(client: AsyncHasty) -> None:
    """And with the id under which the server's logs know the request."""
    with pytest.raises(UnknownKind) as unknown:
        await client.submit("gret", name="Ada")
    assert (unknown.value.nearest, bool(unknown.value.request_id)) == ("greet", True)
    with pytest.raises(BadInput) as bad:
        await client.submit("greet", name=1)
    assert [error.pointer for error in bad.value.errors] == ["/name"]
    first = await client.submit(resize, url="taken", width=1)
    with pytest.raises(KeyTaken) as taken:
        await client.submit("resize", url="taken", width=2)
    assert (taken.value.job_id, (taken.value.retry_after_s or 0) > 0) == (first.id, True)
    with pytest.raises(NoSuchJob):
        await client.get("00000000-0000-7000-8000-000000000000")


async def test_many_jobs_are_made_and_listed(client: AsyncHasty) -> None:
    """In batches, and page by page; what cannot be made is told in its place."""
    labelled = client.with_options(labels=["many"], idempotency_key="many")
    jobs = [NewJob("greet", {"name": f"n{n}"}) for n in range(1100)]
    results = await labelled.submit_many([*jobs, NewJob("greet", {"name": 1})])
    again = await labelled.submit_many([*jobs, NewJob("greet", {"name": 1})])
    made = [result.id for result in results if isinstance(result, Job)]
    assert [result.id for result in again if isinstance(result, Job)] == made
    assert (len(made), type(results[-1])) == (1100, BadInput)
    listed = [job.id async for job in client.jobs(label="many")]
    assert (len(listed), set(listed)) == (1100, set(made))
    assert len([job async for job in client.jobs(kind="greet", limit=150)]) == 150


async def test_events_follow_a_job_to_its_outcome(client: AsyncHasty, blocking: Hasty) -> None:
    """What its handler says is among them, and the outcome is the last."""
    made = await client.submit("long_async", seconds=2)
    told, told_too = await asyncio.gather(_events(client, made), asyncio.to_thread(lambda: list(blocking.events(made))))
    for events in (told, told_too):
        assert [job.ended for job in events] == [False] * (len(events) - 1) + [True]
        assert any(job.progress and job.progress.note == "on it" for job in events)
    assert [job.status for job in await _events(client, made)] == ["finished"]


async def test_kinds_workers_and_overview_are_shown(client: AsyncHasty) -> None:
    """As they are."""
    [kind] = [kind for kind in await client.kinds() if kind.name == "resize"]
    [worker] = await client.workers()
    assert (kind.attempts, kind.key, kind.workers) == (5, "{url}", (worker.worker,))
    assert worker.free_slots["greet"] > 0
    assert (await client.overview()).verdict


async def _running_again(client: AsyncHasty, made: Job) -> bool:
    """Whether a worker is known, and nobody waits for the one that was killed."""
    return len(await client.workers()) == 1 and (await client.get(made)).status == "processing"


async def _events(client: AsyncHasty, made: Job) -> list[Job]:
    return [job async for job in client.events(made)]


async def test_wait_and_events_survive_a_restart_of_everything(stack: Stack) -> None:  # long: one restart, four callers
    """One after the other and then all at once: with both clients, in the middle of the same calls."""
    retried: dict[str, list[str]] = {"wait": [], "events": [], "blocking wait": [], "blocking events": []}
    opened, opened_too = asyncio.Event(), threading.Event()
    roles = ("nginx", "api-server", "job-server", "nats", "api-mongo", "job-mongo")
    everything = [child for role in roles for child in services(stack, role)]
    assert len(everything) == len(stack.children)

    def telling(name: str) -> Any:
        return lambda reason, _pause_s: retried[name].append(reason)

    async def follow(made: Job) -> list[Job]:
        async with AsyncHasty(stack.url, on_retry=telling("events")) as client:
            told = []
            async for job in client.events(made):
                told.append(job)
                opened.set()
            return told

    def block(name: str, made: Job) -> list[Job]:
        with Hasty(stack.url, on_retry=telling(name)) as client:
            if name == "blocking wait":
                return [client.wait(made)]
            told = []
            for job in client.events(made):
                told.append(job)
                opened_too.set()
            return told

    async with AsyncHasty(stack.url) as client, AsyncHasty(stack.url, on_retry=telling("wait")) as waiting:
        made = await client.submit(long_async, seconds=120)
        waited = asyncio.create_task(waiting.wait(made))
        followed = [
            asyncio.create_task(follow(made)),
            asyncio.create_task(asyncio.to_thread(block, "blocking wait", made)),
            asyncio.create_task(asyncio.to_thread(block, "blocking events", made)),
        ]
        await eventually(lambda: opened.is_set() and opened_too.is_set(), within_s=30)
        for child in everything:
            await child.restart()
            await child.ready(60)
        await asyncio.gather(*(child.kill() for child in everything))
        for child in everything:
            await child.ready(60)
        await eventually(lambda: all(retried.values()), within_s=30)
        await eventually(lambda: _running_again(client, made), within_s=60)
        await client.cancel(made)
        async with asyncio.timeout(60):
            told = await asyncio.gather(*followed)
            assert (await waited).status == "cancelled"
    assert [jobs[-1].status for jobs in told] == ["cancelled"] * 3
    assert len({job.revision for job in told[0]}) > 1
