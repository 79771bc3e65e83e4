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

    def gone_s(self, owner: str) -> float | None:
        """Return for how long an api-server has not renewed its lease, if it is overdue; None when it is not."""
        renewed_at = self._renewed_at.get(owner)
        if renewed_at is None:
            return None
        silent = self._now() - renewed_at
        return silent.total_seconds() if silent > LEASE else None

    async def run(self) -> None:
        """Look for ever; while the database fails, what was seen last counts."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                self._renewed_at = {lease.owner: lease.renewed_at for lease in await self._leases.all()}
            await asyncio.sleep(LOOK_EVERY_S)
