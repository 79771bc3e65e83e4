"""Fakes of what else the api-server's database keeps: kinds, requests, statuses; `tests/store` proves them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from api_server.domain import Claim, KindVersion
from api_server.store.kinds import kind_id
from hasty.jobs import TERMINAL, Kind
from tests.fakes.databases import FakeDatabase, FakeJobStore


class FakeKindStore(FakeDatabase):
    """The kinds, with the methods of `api_server.store.kinds`."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, KindVersion] = {}

    async def announce(self, kinds: Sequence[Kind], now: datetime) -> None:
        """Store versions of kinds, or note that they were seen again."""
        fate = await self.before("announce")
        for kind in kinds:
            known = self.kinds.get(kind_id(kind))
            self.kinds[kind_id(kind)] = KindVersion(kind, now if known is None else known.first_at, now)
        self.after(fate)

    async def seen(self) -> dict[str, datetime]:
        """Return which versions there are, and when each was last seen."""
        self.after(await self.before("seen"))
        return {identity: version.seen_at for identity, version in self.kinds.items()}

    async def load(self, ids: Collection[str]) -> list[KindVersion]:
        """Return these versions."""
        self.after(await self.before("load"))
        return [self.kinds[identity] for identity in ids if identity in self.kinds]

    async def touch(self, ids: Collection[str], now: datetime) -> None:
        """Note that these versions are served now."""
        fate = await self.before("touch")
        for identity in ids:
            if identity in self.kinds:
                self.kinds[identity] = replace(self.kinds[identity], seen_at=now)
        self.after(fate)

    async def forget(self, ids: Collection[str]) -> None:
        """Remove these versions."""
        fate = await self.before("forget")
        for identity in ids:
            self.kinds.pop(identity, None)
        self.after(fate)


class FakeRequestStore(FakeDatabase):
    """The requests with an idempotency key, with the method of `api_server.store.requests`."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, Claim] = {}

    async def claim(self, claims: Sequence[Claim]) -> dict[str, Claim]:
        """Store claims; what is stored now, by key."""
        fate = await self.before("claim")
        stored = {claim.key: self.claims.setdefault(claim.key, claim) for claim in claims}
        self.after(fate)
        return stored


class FakeStatusStore:
    """The statuses of jobs, with the method of `api_server.store.statuses`; `asked` counts the jobs asked for."""

    def __init__(self, jobs: FakeJobStore) -> None:
        self._jobs = jobs
        self.asked: list[int] = []

    async def ended(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of these jobs that have ended."""
        self.asked.append(len(job_ids))
        found = await self._jobs.get(job_ids)
        return {job_id for job_id, job in found.items() if job.status in TERMINAL}
