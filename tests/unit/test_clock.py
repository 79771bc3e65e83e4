"""The api-server's clock: the database's time, which an election between clocks that differ does not move."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from api_server.clock import RETURN_RATE, SHARED_VALID_FOR, DatabaseClock, Shared
from hasty.server.mongo import ServerTime, StoreUnavailable

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HALF_A_MINUTE = timedelta(seconds=30)


class Clock:
    """A clock that is read at chosen times of a monotonic clock, in seconds from now."""

    def __init__(self) -> None:
        self.clock = DatabaseClock()
        self._start = time.monotonic()

    def read(self, at: datetime, member: str = "", *, after_s: float = 0, shared: Shared | None = None) -> None:
        """Take a reading."""
        monotonic = self._start + after_s
        self.clock.set(ServerTime(at, member), monotonic, monotonic, shared)

    def shows(self, at: datetime, *, after_s: float = 0, within: timedelta = SECOND / 2) -> bool:
        """Whether it shows about this time so many seconds after the start."""
        passed = timedelta(seconds=time.monotonic() - self._start - after_s)
        return abs(self.clock.now() - passed - at) < within


def test_time_is_unknown_before_the_first_reading() -> None:
    """Nothing can be decided without it."""
    with pytest.raises(StoreUnavailable):
        DatabaseClock().now()


@pytest.mark.parametrize("apart", [HALF_A_MINUTE, -HALF_A_MINUTE])
def test_election_does_not_move_the_time(apart: timedelta) -> None:
    """Whichever member's clock is ahead."""
    clock = Clock()
    clock.read(NOON, "first")

    clock.read(NOON + 5 * SECOND + apart, "second", after_s=5)

    assert clock.shows(NOON + 5 * SECOND, after_s=5)
    assert abs(clock.clock.ahead + apart) < SECOND / 2


@pytest.mark.parametrize("apart", [HALF_A_MINUTE, -HALF_A_MINUTE])
def test_time_returns_slowly_to_the_new_primarys(apart: timedelta) -> None:
    """A millisecond a second, and no further."""
    clock = Clock()
    clock.read(NOON, "first")
    clock.read(NOON + apart, "second")

    clock.read(NOON + apart + 1000 * SECOND, "second", after_s=1000)

    returned = 1000 * RETURN_RATE * SECOND
    assert clock.shows(NOON + 1000 * SECOND + (returned if apart > timedelta(0) else -returned), after_s=1000)
    clock.read(NOON + apart + 90_000 * SECOND, "second", after_s=90_000)
    assert clock.shows(NOON + apart + 90_000 * SECOND, after_s=90_000)


def test_time_follows_the_clock_of_one_member() -> None:
    """The machine may have been suspended, or the database's clock corrected."""
    clock = Clock()
    clock.read(NOON)

    clock.read(NOON + 60 * HALF_A_MINUTE, after_s=5)

    assert clock.shows(NOON + 60 * HALF_A_MINUTE, after_s=5)
    assert clock.clock.ahead == timedelta(0)


def test_new_api_server_takes_the_time_of_those_that_run() -> None:
    """They share by how much their time is ahead of the primary's clock."""
    clock = Clock()

    clock.read(NOON + HALF_A_MINUTE, "second", shared=Shared(-HALF_A_MINUTE, NOON - 2 * SECOND))

    assert clock.shows(NOON)


@pytest.mark.parametrize("stored", [NOON - SHARED_VALID_FOR - SECOND, NOON + 2 * SECOND])
def test_what_nobody_shares_any_more_is_not_taken(stored: datetime) -> None:
    """All api-servers had stopped since, or the clock was corrected."""
    clock = Clock()

    clock.read(NOON + HALF_A_MINUTE, "second", shared=Shared(-HALF_A_MINUTE, stored))

    assert clock.shows(NOON + HALF_A_MINUTE)


async def test_readings_are_shared_while_the_clocks_differ() -> None:
    """At every reading, for those who start later."""
    store = _Store()
    clock = DatabaseClock()
    await clock.read(store)
    assert store.kept is None
    store.time = ServerTime(NOON + HALF_A_MINUTE, "second")

    await clock.read(store)

    assert store.kept is not None
    assert abs(store.kept.ahead + HALF_A_MINUTE) < SECOND / 2
    assert abs(store.kept.at - NOON) < SECOND / 2
    later = DatabaseClock()
    await later.read(store)
    assert abs(later.now() - clock.now()) < SECOND / 2


@pytest.mark.parametrize(("takes_s", "asked"), [([0.001], 1), ([2.3, 0.001], 2), ([2.3, 0.8, 0.5], 3)])
async def test_first_reading_is_the_quickest_of_some(
    takes_s: list[float], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that has just been restarted may answer late: the time would be off by half of that."""
    moment = [100.0]
    monkeypatch.setattr("api_server.clock.time.monotonic", lambda: moment[0])
    store = _Store()
    clock = DatabaseClock()

    async def late() -> ServerTime:
        # Read at once, and answered late.
        read = ServerTime(NOON + (moment[0] - 100) * SECOND, "first")
        moment[0] += store.takes_s.pop(0)
        return read

    store.takes_s = list(takes_s)
    monkeypatch.setattr(store, "server_time", late)
    await clock.read(store)
    assert len(takes_s) - len(store.takes_s) == asked
    off = clock.now() - NOON - (moment[0] - 100) * SECOND
    assert abs(off) <= min(takes_s) / 2 * SECOND + SECOND / 100


class _Store:
    """A database whose clock stands still, and what is shared in it."""

    def __init__(self) -> None:
        self.time = ServerTime(NOON, "first")
        self.kept: Shared | None = None
        self.takes_s: list[float] = []

    async def server_time(self) -> ServerTime:
        return self.time

    async def share(self, _member: str, shared: Shared) -> None:
        self.kept = shared

    async def shared(self, _member: str) -> Shared | None:
        return self.kept
