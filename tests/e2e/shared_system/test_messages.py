"""Malformed messages on every subject become dead letters and are counted, and nothing stops."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import nats
import pytest
import pytest_asyncio
from nats.js import JetStreamContext

from hasty.server.local_stack import Child, Stack
from tests.e2e.client import Hasty, new_object_id
from tests.e2e.stacks import metrics, services, tracebacks
from tests.eventually import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.own_stack,
]

GROUPS = {
    "job:created": "job-created-group",
    "job:finished": "job-finished-group",
    "job:cancelled": "job-cancelled-group",
}


def event(subject: str, **changes: object) -> bytes:
    """The event of a job that nobody knows, changed as told."""
    job_id = str(uuid.uuid4())
    status = "processing" if subject == "job:created" else subject.removeprefix("job:")
    job: dict[str, object] = {
        "id": job_id,
        "job_id": job_id,
        "object_id": new_object_id(),
        "status": status,
        "timestamp": int(time.time()),
        "sleep_time_used": 0,
    }
    return json.dumps({"subject": subject, "job": job | changes}).encode()


def malformed(subject: str) -> list[bytes]:
    """Messages that nobody could understand on this subject."""
    other = "job:finished" if subject == "job:created" else "job:created"
    return [
        b"",
        b"\x00",
        b"\xff\xfe\x00garbage",
        b"not json",
        b"null",
        b"[]",
        b"{}",
        b'{"subject": "job:created"}',
        b'{"subject": "job:created", "job": null}',
        b"[" * 60_000,
        b"x" * 60_000,
        event(other),
        event(subject, job_id=None),
        event(subject, job_id={"$ne": None}),
        event(subject, job_id=""),
        event(subject, object_id=7),
        event(subject, status="exploded"),
        event(subject, timestamp="yesterday"),
        event(subject, timestamp=10**30),
        event(subject, sleep_time_used=[]),
        event(subject).replace(b'"object_id": "', rb'"object_id": "\ud800'),
    ]


@pytest_asyncio.fixture(loop_scope="session")
async def jetstream(shared_stack: Stack) -> AsyncIterator[JetStreamContext]:
    """A publisher that is none of ours."""
    client = await nats.connect(shared_stack.children["nats"].url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


def readers(stack: Stack, subject: str) -> list[Child]:
    """Who reads a subject."""
    return services(stack, "job-server" if subject == "job:created" else "api-server")


async def dead_letters(stack: Stack, ports: httpx.AsyncClient, subject: str) -> float:
    """How many dead letters the readers of a subject have stored, by their own count."""
    return sum(await metrics(ports, readers(stack, subject), "hasty_dead_letters_total"))


async def at_rest(jetstream: JetStreamContext) -> None:
    """Wait until every message of every subject has been delivered and acknowledged."""
    for durable in GROUPS.values():

        async def done(durable: str = durable) -> bool:
            info = await jetstream.consumer_info("JOBS", durable)
            return (info.num_pending, info.num_ack_pending) == (0, 0)

        await eventually(done, within_s=20)


@pytest.mark.parametrize("subject", GROUPS)
async def test_malformed_messages_become_dead_letters(
    shared_stack: Stack, hasty: Hasty, ports: httpx.AsyncClient, jetstream: JetStreamContext, subject: str
) -> None:
    """Each message once; none comes again, none ends a process, and jobs go on being done."""
    pids = {child.name: child.pid for child in readers(shared_stack, subject)}
    before = await dead_letters(shared_stack, ports, subject)
    messages = malformed(subject)

    for message in messages:
        await jetstream.publish(subject, message)

    await hasty.finished(await hasty.create_many(10), within_s=20)
    await at_rest(jetstream)
    assert await dead_letters(shared_stack, ports, subject) - before == len(messages)
    assert {child.name: child.pid for child in readers(shared_stack, subject)} == pids
    assert tracebacks(shared_stack) == []


@pytest.mark.parametrize("subject", ["job:finished", "job:cancelled"])
async def test_ending_of_an_unknown_job_becomes_a_dead_letter(
    shared_stack: Stack, hasty: Hasty, ports: httpx.AsyncClient, jetstream: JetStreamContext, subject: str
) -> None:
    """It creates no job: nobody asked for it."""
    before = await dead_letters(shared_stack, ports, subject)
    message = event(subject, sleep_time_used=1)

    await jetstream.publish(subject, message)

    await at_rest(jetstream)
    assert await dead_letters(shared_stack, ports, subject) - before == 1
    assert (await hasty.get(json.loads(message)["job"]["job_id"])).status_code == 400


async def test_a_job_that_the_api_server_never_made_is_nobodys(
    shared_stack: Stack, hasty: Hasty, ports: httpx.AsyncClient, jetstream: JetStreamContext
) -> None:
    """A job-server cannot know better and runs it; its outcome becomes a dead letter."""
    before = await dead_letters(shared_stack, ports, "job:finished")
    message = event("job:created")

    await jetstream.publish("job:created", message)

    async def outcome_is_a_dead_letter() -> bool:
        return await dead_letters(shared_stack, ports, "job:finished") - before == 1

    await eventually(outcome_is_a_dead_letter)
    await at_rest(jetstream)
    assert (await hasty.get(json.loads(message)["job"]["job_id"])).status_code == 400


def told_again(subject: str, job: dict[str, Any], **changes: object) -> bytes:
    """An event about a job as it is, changed as told."""
    return json.dumps({"subject": subject, "job": job | changes}).encode()


async def test_repeated_messages_change_nothing(
    shared_stack: Stack, hasty: Hasty, ports: httpx.AsyncClient, jetstream: JetStreamContext
) -> None:
    """The creation and the end of a finished job published again, and an end that contradicts the first."""
    [job] = await hasty.finished([await hasty.create()])
    workers = services(shared_stack, "job-server")
    already_ended = sum(await metrics(ports, workers, "hasty_jobs_already_ended_total"))
    created = told_again("job:created", job, status="processing", sleep_time_used=0)
    ends = [
        told_again("job:finished", job),
        told_again("job:finished", job, sleep_time_used=44),
        told_again("job:cancelled", job, status="cancelled"),
    ]

    for _ in range(3):
        await jetstream.publish("job:created", created)
        for end in ends:
            await jetstream.publish(json.loads(end)["subject"], end)

    await at_rest(jetstream)
    assert await hasty.job(job["job_id"]) == job
    assert sum(await metrics(ports, workers, "hasty_jobs_already_ended_total")) - already_ended == 3


async def test_a_creation_told_twice_at_once_has_one_outcome(hasty: Hasty, jetstream: JetStreamContext) -> None:
    """Two workers may run the job; the first recorded outcome is the only one."""
    job_id = await hasty.create()
    created = told_again("job:created", await hasty.job(job_id), status="processing", sleep_time_used=0)

    for _ in range(5):
        await jetstream.publish("job:created", created)

    [first] = await hasty.finished([job_id])
    await at_rest(jetstream)
    assert await hasty.job(job_id) == first
