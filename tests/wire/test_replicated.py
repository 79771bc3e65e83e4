"""A stream with three copies, on a cluster of three servers: what is different from a single server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import DURABLES, STREAM
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.real_wire import RealWire
from tests.servers import is_stopped

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACK_WAIT_S = 30.0
COPIES = 3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Three servers for all tests of this module."""
    async with Cluster.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def wire(cluster: Cluster) -> AsyncIterator[RealWire]:
    """A connection to the leader of a new stream with three copies."""
    # The test before may have left a cluster that is still choosing its leader.
    await eventually(lambda: cluster.api(f"STREAM.DELETE.{STREAM}"), within_s=30)
    async with Connection.opened(cluster.url, name="set-up") as opened:
        await opened.until_connected()
        await RealWire(opened).ensure(ACK_WAIT_S, COPIES)
    await cluster.ready()
    async with Connection.opened(f"nats://{(await cluster.leader()).address}", name="a test") as opened:
        await opened.until_connected()
        yield RealWire(opened)


def message(message_id: str) -> Outgoing:
    """A message that says its own id."""
    return Outgoing(Subject.CREATED, message_id.encode(), message_id)


async def stored_in_batches(cluster: Cluster) -> dict[str, bool]:
    """The headers of each stored message, as text: whether it came in an atomic batch, by its id."""
    found: dict[str, bool] = {}
    async with cluster.client() as client:
        for stored in await _all_messages(client):
            found[stored.headers["Nats-Msg-Id"]] = "Nats-Batch-Id" in stored.headers
    return found


async def _all_messages(client: Any) -> list[Any]:
    js = client.jetstream(timeout=3)
    state = (await js.stream_info(STREAM)).state
    return [await js.get_msg(STREAM, sequence) for sequence in range(1, state.last_seq + 1)]


async def test_copies_are_added_and_removed_in_place(cluster: Cluster, wire: RealWire) -> None:
    """The stream stays the same one, keeps its messages, and its consumers follow."""
    before = await wire.ensure(ACK_WAIT_S, COPIES)
    assert await wire.publish([message("kept")]) == [True]

    for copies in (1, COPIES):
        after = await wire.ensure(ACK_WAIT_S, copies)
        assert (after.identity, after.is_new) == (before.identity, False)

        async def copied(copies: int = copies) -> bool:
            infos = [await cluster.api(f"STREAM.INFO.{STREAM}")]
            infos += [await cluster.api(f"CONSUMER.INFO.{STREAM}.{durable.name}") for durable in DURABLES]
            return [1 + len(info.get("cluster", {}).get("replicas") or []) for info in infos] == [copies] * len(infos)

        await eventually(copied, within_s=30)
    assert list(await stored_in_batches(cluster)) == ["kept"]


async def test_too_few_servers_change_nothing(cluster: Cluster, wire: RealWire) -> None:
    """More copies than servers: a server may still come, so this is no reason to end."""
    with pytest.raises(BrokerUnavailable, match="no suitable peers"):
        await wire.ensure(ACK_WAIT_S, COPIES + 2)

    assert (await cluster.api(f"STREAM.INFO.{STREAM}"))["config"]["num_replicas"] == COPIES


async def test_cluster_without_a_quorum_is_no_conflict(cluster: Cluster, wire: RealWire) -> None:
    """A stream that cannot be changed now is changed later."""
    await eventually(cluster.in_sync, within_s=30)
    followers = await cluster.followers()
    await asyncio.gather(*(follower.stay_down() for follower in followers))
    try:

        async def refused() -> bool:
            with pytest.raises(BrokerUnavailable) as refusal:
                await wire.ensure(ACK_WAIT_S, 1)
            return "could not make or change" in str(refusal.value)

        # First nobody answers; then the last server has noticed that it is alone.
        await eventually(refused, within_s=60)
    finally:
        await cluster.start(*followers)


async def test_id_in_process_leaves_atomic_batches_on(cluster: Cluster, wire: RealWire) -> None:
    """Error 10158 of a replicated stream: not confirmed, published again later, and batches go on as before."""
    followers = await cluster.followers()
    for follower in followers:
        follower.pause()
    try:
        await eventually(lambda: all(is_stopped(follower) for follower in followers))
        assert await wire.publish([message("in process")]) == [False]
        assert await wire.publish([message("beside it"), message("in process")]) == [False, False]
    finally:
        for follower in followers:
            follower.resume()
    await cluster.ready()

    again = [message("beside it"), message("in process")]
    await eventually(lambda: _published(wire, again), within_s=30)
    later = [message("later 1"), message("later 2")]
    await eventually(lambda: _published(wire, later), within_s=30)

    in_batches = await stored_in_batches(cluster)
    assert sorted(in_batches) == ["beside it", "in process", "later 1", "later 2"]
    assert (in_batches["later 1"], in_batches["later 2"]) == (True, True)


async def test_leader_lost_within_a_batch_leaves_batches_on(
    cluster: Cluster, wire: RealWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new leader knows no beginning of the batch and refuses its end: nothing is stored, and batches go on."""
    write = wire.connection.write

    async def then_change_leader(lines: bytes) -> None:
        await write(lines)
        monkeypatch.undo()
        before = await cluster.leader()
        await cluster.api(f"STREAM.LEADER.STEPDOWN.{STREAM}")

        async def changed() -> bool:
            return await cluster.leader() is not before

        await eventually(changed, within_s=30)

    monkeypatch.setattr(wire.connection, "write", then_change_leader)
    batch = [message("1"), message("2"), message("3")]
    first = await wire.publish(batch)
    await eventually(lambda: _published(wire, batch), within_s=30)

    assert first == [False, False, False]
    assert await stored_in_batches(cluster) == {"1": True, "2": True, "3": True}


async def _published(wire: RealWire, batch: list[Outgoing]) -> bool:
    return all(await wire.publish(batch))
