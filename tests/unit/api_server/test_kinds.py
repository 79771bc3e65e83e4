"""What is known of kinds: announced, read, put in order, forgotten."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from api_server.domain import KindVersion
from api_server.kinds import UNSERVED_KEPT, VERSIONS_KEPT, in_order
from hasty.jobs import Kind
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import KIND_ANNOUNCED
from tests.fakes import Fate
from tests.unit.api_server.v1_world import FETCH, GREET, V1World, World, pulse

pytestmark = pytest.mark.asyncio


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def v1(world: World) -> V1World:
    """An api-server in it."""
    return world.v1()


def version(kind: Kind, number: int) -> Kind:
    """One of the versions of a kind."""
    return replace(kind, version=f"v{number}")


async def test_announced_kind_is_known_everywhere(world: World, v1: V1World) -> None:
    """Whoever took the announcement; what the broker needs is made for it."""
    other, made = world.v1(), []
    for server in (v1, other):
        server.kinds.on_new = lambda: made.append(1)
    await world.announced(v1, GREET, FETCH)
    await other.kinds.read()

    assert v1.kinds.names() == other.kinds.names() == ["fetch", "greet"]
    assert other.kinds.versions("greet") == [GREET]
    assert len(made) == 2
    assert world.broker.unfinished(KIND_ANNOUNCED) == 0


async def test_consumer_of_a_kind_is_made_before_jobs_of_it_are_taken(world: World, v1: V1World) -> None:
    """Then there is no message yet, and it is certain that nobody has taken one; of known kinds there is one."""
    prepared: list[tuple[list[str], list[str]]] = []

    async def prepare(names: Collection[str]) -> None:
        prepared.append((sorted(names), v1.kinds.names()))

    v1.kinds.prepare = prepare
    await world.announced(v1, GREET)
    await world.announced(v1, version(GREET, 2), FETCH)
    await world.announced(v1, FETCH)

    assert prepared == [(["greet"], []), (["fetch"], ["greet"])]


async def test_malformed_announcement_becomes_a_dead_letter(world: World, v1: V1World) -> None:
    """And those beside it are stored."""
    world.broker.store(Outgoing(Subject.KIND.value, b"{}"))
    await world.announced(v1, GREET)
    assert v1.kinds.names() == ["greet"]
    assert len(world.store.dead) == 1


async def test_announcement_is_kept_until_it_is_stored(world: World, v1: V1World) -> None:
    """Without a database it is handed back."""
    world.kind_store.fate = lambda _: Fate.LOST
    await world.announced(v1, GREET)
    assert v1.kinds.names() == []
    assert world.broker.unfinished(KIND_ANNOUNCED) == 1

    world.kind_store.fate = lambda _: Fate.STORED
    world.pass_time(timedelta(seconds=60))
    await v1.kinds.take(world.broker.take(KIND_ANNOUNCED, 10))
    assert v1.kinds.names() == ["greet"]


async def test_version_that_is_announced_again_is_read_again(world: World, v1: V1World) -> None:
    """Somebody names versions by hand and changed the code all the same."""
    other = world.v1()
    await world.announced(v1, GREET)
    await other.kinds.read()
    world.pass_time(timedelta(seconds=1))
    changed = replace(GREET, timeout_s=5)
    await world.announced(v1, changed)
    await other.kinds.read()
    assert other.kinds.versions("greet") == [changed]


async def test_versions_that_are_served_count_most(world: World) -> None:
    """The newest of them first; of the others the one that was seen last."""
    kinds = [
        KindVersion(version(GREET, n), world.time + timedelta(minutes=n), world.time + timedelta(minutes=9 - n))
        for n in range(4)
    ]
    ordered = in_order(kinds, {"v0", "v1"})
    assert [one.kind.version for one in ordered] == ["v1", "v0", "v2", "v3"]


async def test_unserved_kinds_are_those_that_no_worker_serves(world: World, v1: V1World) -> None:
    """As far as workers are heard at all: where none is, that is what is wrong."""
    await world.announced(v1, GREET, FETCH)
    assert v1.kinds.unserved() == set()
    v1.workers.hear(pulse(kind=GREET))
    assert v1.kinds.unserved() == {"fetch"}
    v1.workers.hear(pulse(worker="w-2", kind=FETCH))
    assert v1.kinds.unserved() == set()


async def test_version_nobody_serves_is_forgotten(world: World, v1: V1World) -> None:
    """An hour after it was last seen, if there is another; one that is served is kept and noted as seen."""
    for n in (1, 2, 3):
        await world.announced(v1, version(GREET, n))
        world.pass_time(timedelta(minutes=1))
    await world.announced(v1, FETCH)
    world.pass_time(UNSERVED_KEPT)
    v1.workers.hear(pulse(kind=version(GREET, 1)))

    await v1.kinds._tidy()  # noqa: SLF001 - what the loop does between two readings
    await v1.kinds.read()
    assert [kind.version for kind in v1.kinds.versions("greet")] == ["v1"]
    assert v1.kinds.names() == ["fetch", "greet"]
    assert world.kind_store.kinds["greet:v1"].seen_at == world.time


async def test_a_kind_has_so_many_versions_at_most(world: World, v1: V1World) -> None:
    """Code that is reloaded at every keystroke must not fill the database."""
    for n in range(VERSIONS_KEPT + 5):
        await world.announced(v1, version(GREET, n))
        world.pass_time(timedelta(seconds=1))
    await v1.kinds._tidy()  # noqa: SLF001 - as above
    await v1.kinds.read()
    assert [kind.version for kind in v1.kinds.versions("greet")] == [f"v{n}" for n in range(36, 4, -1)]


async def test_unknown_kinds_are_not_looked_for_at_every_request(world: World, v1: V1World) -> None:
    """A flood of typing errors reads the kinds once in a while."""
    read: list[str] = []

    def noted(method: str) -> Fate:
        read.append(method)
        return Fate.STORED

    world.kind_store.fate = noted
    assert not any(await asyncio.gather(*(v1.kinds.find(f"kind{n}") for n in range(100))))
    assert read == ["seen"]


async def test_a_kind_announced_a_moment_ago_is_found(world: World, v1: V1World) -> None:
    """To another api-server, a moment ago."""
    assert await v1.kinds.find("greet") == []
    await world.announced(world.v1(), GREET)
    assert await v1.kinds.find("greet")
