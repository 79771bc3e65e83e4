"""One clock for all api-servers: the database's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from runtime.crash_points import clock_shift_s


def host_time() -> datetime:
    """Return what this machine believes the time to be; nothing is decided by it."""
    return datetime.now(UTC) + timedelta(seconds=clock_shift_s())


class DatabaseClock:
    """The database's time, carried on by this machine's monotonic clock between two readings.

    The cooldown compares times that different api-servers have written. A machine whose wall clock is minutes off
    would open or shut the door for everybody, so no decision reads a wall clock.
    """

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._monotonic = 0.0

    @property
    def known(self) -> bool:
        """Whether the database was asked yet."""
        return self._at is not None

    def learn(self, at: datetime, asked: float, answered: float) -> None:
        """Take a reading; `asked` and `answered` are monotonic seconds around it, its error at most half between."""
        self._at = at
        self._monotonic = (asked + answered) / 2

    def now(self) -> datetime:
        """Return the time, in whole milliseconds as the database keeps it.

        Raises:
            RuntimeError: before the first reading.
        """
        if self._at is None:
            raise RuntimeError("the database's time is not known yet")
        now = self._at + timedelta(seconds=time.monotonic() - self._monotonic)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def host_offset_s(self) -> float:
        """Return by how many seconds this machine's wall clock is ahead of the database."""
        return (host_time() - self.now()).total_seconds()
