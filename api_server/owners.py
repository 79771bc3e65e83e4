"""Owners: which api-servers renew their leases, so that a job can say what it waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from api_server.domain import Lease
from api_server.lease import LEASE
from hasty.server.mongo import StoreUnavailable

LOOK_EVERY_S: Final = 5.0


class Leases(Protocol):
    """What reads leases; see `api_server.store.leases.LeaseStore`."""

    async def all(self) -> Sequence[Lease]: ...


class Owners:
    """The leases there are, as of some seconds ago. `now` gives the database's time."""

    def __init__(self, leases: Leases, *, now: Callable[[], datetime]) -> None:
        self._leases = leases
        self._now = now
        self._renewed_at: dict[str, datetime] = {}
        self._overdue: frozenset[str] = frozenset()

    def gone_s(self, owner: str) -> float | None:
        """Return for how long an api-server has not renewed its lease, if it is overdue; None when it is not."""
        # Since the look, others have been renewed as well.
        return (self._now() - self._renewed_at[owner]).total_seconds() if owner in self._overdue else None

    async def look(self) -> None:
        """Read all leases.

        Raises:
            StoreUnavailable: when the database fails.
        """
        now = self._now()
        self._renewed_at = {lease.owner: lease.renewed_at for lease in await self._leases.all()}
        self._overdue = frozenset(owner for owner, at in self._renewed_at.items() if now - at > LEASE)

    async def run(self) -> None:
        """Look for ever; while the database fails, what was seen last counts."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self.look()
            await asyncio.sleep(LOOK_EVERY_S)
