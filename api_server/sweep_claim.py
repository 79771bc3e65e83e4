"""One api-server sweeps for all: otherwise each would publish the same due jobs.

The claim is a hint, not a lock. Two api-servers may sweep at once, as after the first stood still for longer than its
claim lasts: both publish the same dispatch under the same message id, and the broker keeps one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Claimed

CLAIM: Final = timedelta(seconds=5)
"""How long an api-server that is gone keeps the others from sweeping."""

RENEW_EVERY: Final = timedelta(seconds=2)

WAIT_AFTER_FAILURE: Final = timedelta(seconds=2)
"""An api-server that could publish nothing claims again so much later than others may: they look every second."""


class Claims(Protocol):
    """What is stored of the claim; see `api_server.store.leases.LeaseStore`."""

    async def claim_sweeps(self, owner: str, now: datetime, until: datetime) -> Claimed: ...
    async def give_sweeps_back(self, owner: str) -> None: ...


class SweepClaim:
    """This api-server's claim to the sweeps. `now` gives the database's time.

    It is `inherited` when the one that swept before has not given its claim back: what that one published is unknown.
    """

    def __init__(self, claims: Claims, *, owner: str, now: Callable[[], datetime]) -> None:
        self._claims = claims
        self._owner = owner
        self._now = now
        self._claimed_at: datetime | None = None
        # By this process's own clock.
        self._claimed_s = 0.0
        self._failing = False
        self.inherited = False

    async def held(self) -> bool:
        """Whether it is this api-server that sweeps now; renews the claim, or makes it where nobody has one.

        Raises:
            StoreUnavailable: when the database fails.
        """
        now = self._now()
        if self._claimed_at is not None and self._failing:
            age = now - self._claimed_at
            if timedelta(0) <= age < CLAIM:
                return True
            if timedelta(0) <= age < CLAIM + WAIT_AFTER_FAILURE:
                return False
        elif self._claimed_at is not None and self._claimed_at <= now < self._claimed_at + RENEW_EVERY:
            return True
        begun_s = asyncio.get_running_loop().time()
        claimed = await self._claims.claim_sweeps(self._owner, now, now + CLAIM)
        if claimed is Claimed.AFTER_ANOTHER and self._claimed_at is None:
            self.inherited = True
        self._claimed_at, self._claimed_s = now if claimed else None, begun_s
        self._failing = False
        return bool(claimed)

    @property
    def may_have_run_out(self) -> bool:
        """Whether another may sweep though this one has claimed it, as after this process stood still."""
        age_s = asyncio.get_running_loop().time() - self._claimed_s
        return self._claimed_at is not None and age_s >= CLAIM.total_seconds()

    def note(self, *, published: bool) -> None:
        """Note what a sweep came to: a claim that publishes nothing is not renewed, so that another may do better."""
        self._failing = not published

    async def give_back(self) -> None:
        """Leave the sweeps to others at once, where this api-server has claimed them."""
        if self._claimed_at is not None:
            self._claimed_at = None
            await self._claims.give_sweeps_back(self._owner)
