"""A stream that is a new one is noticed, whoever made it and whenever, and unfinished jobs become due once."""

from collections.abc import Collection, Mapping

import pytest

from api_server.topology import NewStreams, States
from hasty.server.messaging.provisioning import StreamState
from hasty.server.mongo import StoreUnavailable


class Database:
    """Remembers the streams, and can be away."""

    def __init__(self) -> None:
        self.streams: dict[str, str] = {}
        self.away = False
        self.reads = 0

    async def identities(self) -> dict[str, str]:
        """What is remembered."""
        self.reads += 1
        self._fail_if_away()
        return dict(self.streams)

    async def remember(self, identities: Mapping[str, str]) -> None:
        """Remember it."""
        self._fail_if_away()
        self.streams.update(identities)

    def _fail_if_away(self) -> None:
        if self.away:
            raise StoreUnavailable("away")


class ApiServer:
    """One api-server, and the streams it found to be new."""

    def __init__(self, database: Database) -> None:
        self.found: list[set[str]] = []
        self.streams = NewStreams(database, self._on_recreated)

    async def _on_recreated(self, streams: Collection[str]) -> None:
        self.found.append(set(streams))


def states(jobs: str, work: str = "w1", *, made: bool = False) -> States:
    """The streams as a look finds them; `made` when that of jobs was made by it."""
    return {"JOBS": StreamState(jobs, made), "WORK": StreamState(work, is_new=False)}


async def test_first_look_of_a_new_version_makes_nothing_due() -> None:
    """A database of a version that did not remember streams says nothing about them."""
    database = Database()
    api_server = ApiServer(database)

    await api_server.streams.check(states("j1"))

    assert api_server.found == []
    assert database.streams == {"JOBS": "j1", "WORK": "w1"}


async def test_another_stream_is_noticed_by_its_identity() -> None:
    """Only the one that changed, and once."""
    api_server = ApiServer(Database())
    await api_server.streams.check(states("j1"))

    await api_server.streams.check(states("j1", "w2"))
    await api_server.streams.check(states("j1", "w2"))

    assert api_server.found == [{"WORK"}]


async def test_stream_made_while_no_api_server_ran_is_noticed() -> None:
    """By the next one that starts: the database remembers."""
    database = Database()
    await ApiServer(database).streams.check(states("j1"))

    restarted = ApiServer(database)
    await restarted.streams.check(states("j2"))

    assert restarted.found == [{"JOBS"}]


async def test_of_two_api_servers_one_makes_jobs_due() -> None:
    """The second one finds that the first was there."""
    database = Database()
    one, other = ApiServer(database), ApiServer(database)
    for api_server in (one, other):
        await api_server.streams.check(states("j1"))

    for api_server in (one, other):
        await api_server.streams.check(states("j2"))

    assert (one.found, other.found) == ([{"JOBS"}], [])


async def test_new_stream_is_not_forgotten_when_the_database_fails() -> None:
    """The look that made it is the only one that says so."""
    database = Database()
    api_server = ApiServer(database)
    database.away = True
    with pytest.raises(StoreUnavailable):
        await api_server.streams.check(states("j1", made=True))
    database.away = False

    await api_server.streams.check(states("j1"))
    await api_server.streams.check(states("j1"))

    assert api_server.found == [{"JOBS"}]


async def test_unchanged_streams_cost_no_look_at_the_database() -> None:
    """There is one every 30 seconds and at each reconnection."""
    database = Database()
    api_server = ApiServer(database)
    await api_server.streams.check(states("j1"))
    reads = database.reads

    await api_server.streams.check(states("j1"))

    assert database.reads == reads
