"""One clock for all api-servers: the database's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from prometheus_client import Gauge

from hasty.server.mongo import ServerTime, StoreUnavailable
from hasty.server.runtime.crash_points import clock_shift_s
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

READ_EVERY_S: Final = 5.0
RETRY_S: Final = 0.25
SLOW_READING_S: Final = 0.25
FIRST_READINGS: Final = 3
"""So often the time is asked for at first while the answers take long: what is wrong then stays so for a while."""

NOT_KNOWN: Final = "the database's time is not known yet"

RETURN_RATE: Final = 0.001
"""After an election, the time returns to the new primary's clock by a millisecond a second: hours for half a minute."""

SHARED_FROM: Final = timedelta(seconds=1)
SHARED_VALID_FOR: Final = timedelta(seconds=15)
"""What the running api-servers share is stored anew at every reading."""


@dataclass(frozen=True, slots=True)
class Shared:
    """By how much the api-servers' time is `ahead` of a member's clock, stored by one of them at `at`, their time."""

    ahead: timedelta
    at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether those who stored it are still running, when their time would be `now`."""
        return -SHARED_FROM <= now - self.at <= SHARED_VALID_FOR


class Store(Protocol):
    """What the clock needs of the database; see `api_server.store.clocks.ClockStore`."""

    async def server_time(self) -> ServerTime: ...  # noqa: D102 - described where it is implemented
    async def share(self, member: str, shared: Shared) -> None: ...  # noqa: D102
    async def shared(self, member: str) -> Shared | None: ...  # noqa: D102


def host_time() -> datetime:
    """Return this machine's wall clock; no decision uses it."""
    return datetime.now(UTC) + timedelta(seconds=clock_shift_s())


class DatabaseClock:
    """The database's time, continued by this machine's monotonic clock between two readings.

    The cooldown compares times that different api-servers have written. A machine whose wall clock is minutes off
    would shorten or extend every cooldown, so no decision reads a wall clock.

    The members of a replica set have clocks of their own. When another one becomes primary, the time goes on as it was,
    and what its clock is off is kept as an offset, which api-servers that start later read from the database.
    """

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._monotonic = 0.0
        self._member = ""
        self._ahead = timedelta(0)

    @property
    def known(self) -> bool:
        """Whether the database was asked yet."""
        return self._at is not None

    @property
    def ahead(self) -> timedelta:
        """By how much this time is ahead of the primary's clock."""
        return self._ahead

    def set(self, read: ServerTime, asked: float, answered: float, shared: Shared | None = None) -> None:
        """Take a reading; `asked` and `answered` are monotonic seconds around it, its error at most half between.

        `shared` is what other api-servers know about that member's clock; it counts at the first reading only.
        """
        monotonic = (asked + answered) / 2
        if self._at is None:
            holds = shared is not None and shared.holds(read.at + shared.ahead)
            self._ahead = shared.ahead if shared is not None and holds else timedelta(0)
        else:
            passed = timedelta(seconds=monotonic - self._monotonic)
            if read.member != self._member:
                self._ahead = self._at + passed - read.at
                self._warn(read.member)
            most = passed * RETURN_RATE
            self._ahead -= max(-most, min(most, self._ahead))
        self._member = read.member
        self._at = read.at + self._ahead
        self._monotonic = monotonic

    def now(self) -> datetime:
        """Return the time, in whole milliseconds as the database keeps it.

        Raises:
            StoreUnavailable: before the first reading.
        """
        if self._at is None:
            raise StoreUnavailable(NOT_KNOWN)
        now = self._at + timedelta(seconds=time.monotonic() - self._monotonic)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def host_offset_s(self) -> float:
        """Return by how many seconds this machine's wall clock is ahead of the database."""
        return (host_time() - self.now()).total_seconds()

    async def read(self, store: Store) -> None:
        """Ask the database for its time, and use it unless the answer took long.

        Raises:
            StoreUnavailable: when the database does not answer.
        """
        read, asked, answered = await _reading(store)
        if not self.known:
            for _ in range(FIRST_READINGS - 1):
                if answered - asked >= SLOW_READING_S:
                    again = await _reading(store)
                    read, asked, answered = min((read, asked, answered), again, key=_took_s)
            self.set(read, asked, answered, await store.shared(read.member))
        elif answered - asked < SLOW_READING_S:
            self.set(read, asked, answered)
        if abs(self._ahead) >= SHARED_FROM:
            await store.share(self._member, Shared(self._ahead, self.now()))

    async def run(self, store: Store) -> None:
        """Read the database's time for ever: soon at first, and then every few seconds."""
        while True:
            try:
                await self.read(store)
                await asyncio.sleep(READ_EVERY_S)
            except StoreUnavailable as error:
                log.warning("waiting_for_database", reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _warn(self, member: str) -> None:
        if abs(self._ahead) >= SHARED_FROM:
            seconds = round(-self._ahead.total_seconds(), 3)
            log.warning("database_clocks_differ", member=member, ahead_s=seconds)

    def publish_offset(self) -> None:
        """Show in `/metrics` how far this machine's wall clock is off the database's; no decision uses it."""
        gauge = Gauge("hasty_clock_offset_seconds", "Host's wall clock ahead of the database's")
        gauge.set_function(lambda: self.host_offset_s() if self.known else float("nan"))


async def _reading(store: Store) -> tuple[ServerTime, float, float]:
    asked = time.monotonic()
    return await store.server_time(), asked, time.monotonic()


def _took_s(reading: tuple[ServerTime, float, float]) -> float:
    _, asked, answered = reading
    return answered - asked
