"""The broker with the containers' configuration: what its users can do, and what they cannot make it do."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hasty.server.messaging.connection import BrokerUnavailable
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import Outgoing, Subject, work_subject
from hasty.server.messaging.topology import DURABLES, JOB_CREATED, JOB_FINISHED, STREAM, STREAMS, Durable, work_durable
from tests.compose.rights import RIGHTS, permitted
from tests.eventually import eventually
from tests.real_wire import RealWire
from tests.servers import container_nats_server, nats_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACK_WAIT_S = 30.0
INSIDE = Path(__file__).parents[1] / "compose" / "inside"


@dataclass(frozen=True)
class Secured:
    """A broker with users: a connection of each service, and of the one who sets up."""

    urls: dict[str, str]
    api: RealWire
    job: RealWire
    setup: RealWire


@pytest_asyncio.fixture(loop_scope="session")
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    """A broker whose stream holds five new jobs and five outcomes."""
    async with container_nats_server(tmp_path) as (_, urls), AsyncExitStack() as opened:
        wires = [
            await opened.enter_async_context(RealWire.opened(urls[user], name="a test"))
            for user in ("api", "job", "setup")
        ]
        for wire in wires:
            await wire.until_connected()
        secured = Secured(urls, *wires)
        await secured.setup.ensure(ACK_WAIT_S, kinds=["greet"])
        created = [Outgoing(Subject.CREATED, b"work %d" % n, f"c{n}") for n in range(5)]
        finished = [Outgoing(Subject.FINISHED, b"done %d" % n) for n in range(5)]
        work = [Outgoing(work_subject("greet"), b"turn %d" % n, f"w{n}") for n in range(5)]
        assert await secured.api.publish([*created, *work]) == [True] * 10
        assert await secured.job.publish(finished) == [True] * 5
        yield secured


async def ask(wire: RealWire, subject: str, body: object = None) -> dict[str, Any]:
    """Ask JetStream for what no method of ours asks."""
    answer: dict[str, Any] = await wire.connection.api(subject, body)
    assert "error" not in answer, answer
    return answer


async def take(wire: RealWire, durable: Durable, count: int) -> list[Delivery]:
    """Take so many messages from a durable consumer that has no more."""
    consumer = wire.consumer(durable, free_slots=lambda _: count - len(taken))
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        async for batch in consumer.batches():
            taken += batch
            if len(taken) >= count:
                consumer.stop()
    return taken


async def facts(secured: Secured) -> dict[str, Any]:
    """What must stay as it is: the stream, its messages, its consumers."""
    found: dict[str, Any] = {"by subject": {}}
    for stream in STREAMS:
        info = await ask(secured.setup, f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        state = info["state"]
        found[stream] = (info["created"], info["config"])
        found[f"first message of {stream}"] = state["first_seq"]
        found[f"deleted from {stream}"] = state.get("num_deleted", 0)
        found["by subject"] |= state.get("subjects", {})
    for durable in (*DURABLES, work_durable("greet")):
        consumer = await ask(secured.setup, f"CONSUMER.INFO.{durable.stream}.{durable.name}")
        found[durable.name] = (consumer["created"], consumer["config"], consumer.get("paused", False))
        found[f"{durable.name} acknowledged"] = consumer["ack_floor"]
    return found


async def inside(script: str, folder: Path, url: str, *arguments: str) -> Any:
    """What a script of tests/compose/inside prints, as JSON, run with a user's login."""
    (folder / "url").write_text(url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(INSIDE / script), "LOGIN", *arguments),
        env={**os.environ, "LOGIN": str(folder / "url")},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def test_jobs_and_outcomes_travel_between_accounts(secured: Secured) -> None:
    """Batches, duplicates, pulls of several, every kind of acknowledgement."""
    assert await secured.api.publish([Outgoing(Subject.CREATED, b"again", "c3")]) == [True]

    jobs = await take(secured.job, JOB_CREATED, 5)
    await secured.job.in_progress(jobs)
    await secured.job.nak(jobs[:1])
    assert await secured.job.ack(jobs[1:])
    (again,) = await take(secured.job, JOB_CREATED, 1)
    assert await secured.job.ack([again])
    outcomes = await take(secured.api, JOB_FINISHED, 5)
    await secured.api.term(outcomes[:1])
    assert await secured.api.ack(outcomes[1:])

    assert [job.data for job in jobs] == [b"work %d" % n for n in range(5)]
    assert [job.message_id for job in jobs] == [f"c{n}" for n in range(5)]
    assert (again.data, again.attempt) == (b"work 0", 2)
    assert [outcome.data for outcome in outcomes] == [b"done %d" % n for n in range(5)]
    for durable in DURABLES:
        consumer = await ask(secured.setup, f"CONSUMER.INFO.{STREAM}.{durable.name}")
        assert (consumer["num_pending"], consumer["num_ack_pending"]) == (0, 0), durable


@pytest.mark.parametrize("user", RIGHTS)
async def test_user_can_do_its_own_part_only(secured: Secured, tmp_path: Path, user: str) -> None:
    """The broker refuses everything that the user is not there for."""
    rights = RIGHTS[user]

    answered = await inside("nats_rights.py", tmp_path, secured.urls[user], *rights.refused, *rights.allowed)

    assert answered == list(rights.refused)


@pytest.mark.parametrize("user", ["api", "job", "previous-api", "previous-job"])
async def test_no_reply_subject_does_harm(secured: Secured, tmp_path: Path, user: str) -> None:
    """Whatever a service publishes, the stream, its messages and its consumers stay, and so does the others' work."""
    service = user.removeprefix("previous-")
    before = await facts(secured)

    done = await inside("nats_attacks.py", tmp_path, secured.urls[user], "store", json.dumps(permitted(service)))

    assert done["refused"] == []
    assert done["sent"] > 500
    after = await facts(secured)
    own = {
        "api": {"job:created", "job:cancel", "work.greet"},
        # Turns that it takes are removed when it acknowledges them: that is its part.
        "job": {"job:finished", "job:failed", "job:cancelled", "job:again", "kind:announced", "work.greet"},
    }[service]
    ends = {"job-finished-group", "job-failed-group", "job-cancelled-group", "job-again-group"}
    taken = {
        "api": {*ends, "kind-announced-group"},
        "job": {"job-created-group", "job-cancel-group", "work-greet"},
    }[service]
    for found in (before, after):
        if service == "job":
            del found["first message of WORK"]
        for subject in own:
            found["by subject"].pop(subject, None)
        for consumer in taken:
            del found[f"{consumer} acknowledged"]
    assert after == before


async def test_turns_of_kinds_travel_between_accounts(secured: Secured) -> None:
    """As batches of several kinds; what is acknowledged is not delivered again."""
    durable = work_durable("greet")

    taken = await take(secured.job, durable, 5)
    assert await secured.job.ack(taken)

    assert [delivery.data for delivery in taken] == [b"turn %d" % n for n in range(5)]
    info = await ask(secured.setup, f"CONSUMER.INFO.{durable.stream}.{durable.name}")
    assert (info["num_ack_pending"], info["num_pending"]) == (0, 0)


async def test_news_travels_between_accounts(secured: Secured) -> None:
    """Pulses and what was forgotten to the api-servers, what to cancel and forget to the job-servers, and questions."""
    to_api = ("hasty.pulse", "hasty.forgot")
    to_job = ("hasty.cancel", "hasty.forget")
    heard: set[str] = set()
    for subject in to_api:
        await secured.api.connection.listen(subject, partial(_hear, heard, subject))
    for subject in to_job:
        await secured.job.connection.listen(subject, partial(_hear, heard, subject))
    await secured.job.connection.listen("hasty.holds", lambda data: b"held" if data == b"mine" else None)
    await secured.job.ping()
    await secured.api.ping()

    async def told() -> bool:
        for subject in to_api:
            await secured.job.connection.publish_core(subject, b"alive")
        for subject in to_job:
            await secured.api.connection.publish_core(subject, b"[]")
        return heard == {*to_api, *to_job}

    await eventually(told)
    async with RealWire.opened(secured.urls["job"], name="another job-server") as another:
        await another.until_connected()
        assert await another.connection.request("hasty.holds", b"mine") == b"held"
        with pytest.raises(BrokerUnavailable):
            await another.connection.request("hasty.holds", b"another's", timeout_s=0.2)
    with pytest.raises(BrokerUnavailable):
        # A process knows what it holds itself.
        await secured.job.connection.request("hasty.holds", b"mine")


def _hear(heard: set[str], subject: str, _data: bytes) -> None:
    heard.add(subject)


async def test_stream_of_version_0_1_is_kept(tmp_path: Path) -> None:
    """It was in the default account; identity, messages and consumers come along."""
    created = [Outgoing(Subject.CREATED, b"%d" % n, f"c{n}") for n in range(3)]
    async with nats_server(tmp_path) as server, RealWire.opened(server.url, name="0.1") as wire:
        await wire.until_connected()
        old = await wire.ensure(ACK_WAIT_S)
        assert await wire.publish(created) == [True] * 3

    async with container_nats_server(tmp_path) as (_, urls), AsyncExitStack() as opened:
        setup, job = [
            await opened.enter_async_context(RealWire.opened(urls[user], name="a test")) for user in ("setup", "job")
        ]
        await setup.until_connected()
        await job.until_connected()
        new = await setup.ensure(ACK_WAIT_S)
        taken = await take(job, JOB_CREATED, 3)

    assert (new.identity, new.is_new) == (old.identity, False)
    assert [delivery.data for delivery in taken] == [b"0", b"1", b"2"]
