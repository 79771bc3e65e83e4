"""Kinds, requests and statuses, on the fakes and on a real server alike."""

from dataclasses import replace
from datetime import timedelta

import pytest

from api_server.domain import Claim, KindVersion
from api_server.store.statuses import StatusStore
from hasty.jobs import Kind, Status, Way
from hasty.server.mongo import Mongo
from tests.fakes import FakeStatusStore
from tests.store.conftest import FakeKinds, FakeStore, RealKinds, RealStore
from tests.store.jobs import NOON, OWNER, SECOND, Store, end, new_job

pytestmark = pytest.mark.asyncio(loop_scope="session")

Kinds = RealKinds | FakeKinds
# Names of members and references that a document could not have.
SCHEMA = '{"$ref": "#/$defs/a.b", "$defs": {"a.b": {}, "": {}}}'
GREET = Kind("greet", Way.COMMAND, "v1.0 $x", SCHEMA, "{}", "Greets.", "{name}", 5, 3, 1.5, 10, 60, at_most_once=True)


async def test_announced_version_is_read_as_it_was(kinds: Kinds) -> None:
    """With the times of its first announcement and of its last; announced again, it is another one."""
    other = replace(GREET, version="v2")
    await kinds.announce([GREET, other], NOON)
    await kinds.announce([replace(GREET, key=None)], NOON + SECOND)

    assert await kinds.seen() == {"greet:v1.0 $x": NOON + SECOND, "greet:v2": NOON}
    loaded = await kinds.load(["greet:v1.0 $x", "greet:v2", "greet:v3"])
    assert sorted(loaded, key=lambda version: version.seen_at) == [
        KindVersion(other, NOON, NOON),
        KindVersion(replace(GREET, key=None), NOON, NOON + SECOND),
    ]


async def test_versions_are_seen_again_and_forgotten(kinds: Kinds) -> None:
    """Those that were forgotten meanwhile do not come back by that."""
    versions = [replace(GREET, version=f"v{n}") for n in range(3)]
    await kinds.announce(versions, NOON)
    await kinds.forget(["greet:v0", "greet:v7"])
    await kinds.touch(["greet:v0", "greet:v1"], NOON + SECOND)
    assert await kinds.seen() == {"greet:v1": NOON + SECOND, "greet:v2": NOON}


async def test_first_claim_of_a_key_stays(kinds: Kinds) -> None:
    """Whoever comes later gets that one, also together with keys that are new."""
    first, other = Claim("k", "a hash", "a job", NOON), Claim("l", "a hash", "another job", NOON)
    late = Claim("k", "another hash", "a third job", NOON + timedelta(hours=1))
    assert await kinds.claim([first]) == {"k": first}
    assert await kinds.claim([late, other]) == {"k": first, "l": other}


async def test_only_ended_jobs_have_ended(jobs: Store) -> None:
    """Unknown ones have not."""
    ended, processing = new_job("a"), new_job("b")
    await jobs.insert([ended, processing], NOON, OWNER)
    await jobs.apply(Status.FINISHED, [end(ended)], NOON)
    statuses = FakeStatusStore(jobs) if isinstance(jobs, FakeStore) else StatusStore(mongo_of(jobs))
    assert await statuses.ended([ended.job_id, processing.job_id, "no such job"]) == {ended.job_id}


def mongo_of(store: RealStore) -> Mongo:
    """The database behind a store."""
    return store._mongo  # noqa: SLF001 - the tests' own store
