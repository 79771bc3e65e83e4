"""Kinds: what job-servers have announced, and which of it counts."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import KindVersion
from hasty.jobs import Kind
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import MalformedMessage, decode_kind
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

READ_EVERY_S: Final = 3.0
READ_AGAIN_S: Final = 0.5
"""The kinds are read again every few seconds, and when an unknown one is asked for: then no more often than that."""

PAUSE_AFTER_FAILURE_S: Final = 0.5
TOUCH_EVERY: Final = timedelta(minutes=10)
"""How often it is noted that a version is still served."""

UNSERVED_KEPT: Final = timedelta(hours=1)
VERSIONS_KEPT: Final = 32
"""A version that no worker serves is forgotten after so long, or when a kind has so many newer ones."""


class Store(Protocol):
    """What keeps the kinds; see `api_server.store.kinds.KindStore`."""

    async def announce(self, kinds: Sequence[Kind], now: datetime) -> None: ...
    async def seen(self) -> dict[str, datetime]: ...
    async def load(self, ids: Collection[str]) -> list[KindVersion]: ...
    async def touch(self, ids: Collection[str], now: datetime) -> None: ...
    async def forget(self, ids: Collection[str]) -> None: ...


class Acks(Protocol):
    """What answers the broker; see `hasty.server.messaging.acks.Acks`."""

    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...
    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...


async def _nothing(_names: Collection[str]) -> None:
    pass


class Kinds:
    """The known versions of all kinds, as the database had them a few seconds ago at most.

    `served` says which versions workers serve now, by kind. `prepare` is called with names that are announced and not
    known here, before jobs of them are taken; `on_new` when they are known.
    """

    def __init__(
        self,
        store: Store,
        acks: Acks,
        dead_letters: DeadLetters,
        *,
        now: Callable[[], datetime],
        served: Callable[[], Mapping[str, Collection[str]]] = dict,
        prepare: Callable[[Collection[str]], Awaitable[None]] = _nothing,
        on_new: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._acks = acks
        self._dead_letters = dead_letters
        self._now = now
        self._served = served
        self.prepare = prepare
        self.on_new = on_new
        self._versions: dict[str, KindVersion] = {}
        self._by_name: dict[str, list[KindVersion]] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    def names(self) -> list[str]:
        """Return the names of all known kinds."""
        return sorted(self._by_name)

    def nearest(self, name: str) -> str | None:
        """Return the known name that looks most like this one, if any does."""
        return next(iter(difflib.get_close_matches(name, self._by_name, n=1)), None)

    def unserved(self) -> frozenset[str]:
        """Return the known kinds that no worker serves now; none while no worker is heard at all."""
        served = self._served()
        return frozenset(self._by_name.keys() - served.keys()) if served else frozenset()

    def versions(self, name: str) -> list[Kind]:
        """Return the known versions of a kind, the one that counts most first; none when it is unknown."""
        versions = self._by_name.get(name, [])
        if len(versions) > 1:
            versions = in_order(versions, self._served().get(name, ()))
        return [version.kind for version in versions]

    async def find(self, name: str) -> list[Kind]:
        """Return the versions of a kind, which may have been announced a moment ago.

        Raises:
            StoreUnavailable: when it is not known here and the database fails.
        """
        if name not in self._by_name:
            asked_at = time.monotonic()
            async with self._reading:
                if self._read_at <= asked_at:
                    # What was read a moment ago may lack a kind that was announced to another api-server since.
                    await asyncio.sleep(max(self._read_at + READ_AGAIN_S - time.monotonic(), 0))
                    await self.read()
        return self.versions(name)

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Store announcements, then acknowledge them; what is malformed becomes a dead letter."""
        valid: list[tuple[Delivery, Kind]] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                valid.append((delivery, decode_kind(delivery.data)))
            except MalformedMessage as error:
                malformed.append((delivery, str(error)))
        try:
            await self._dead_letters.put(malformed, "malformed")
            if valid:
                # Of several announcements of one version, the last counts.
                latest = {(kind.name, kind.version): kind for _, kind in valid}
                if new := {kind.name for kind in latest.values()} - self._by_name.keys():
                    await self.prepare(new)
                await self._store.announce(list(latest.values()), self._now())
                await self.read()
        except StoreUnavailable as error:
            log.warning("kinds_not_stored", count=len(deliveries), reason=str(error))
            await self._acks.nak(deliveries, delay_s=1)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        await self._acks.ack([delivery for delivery, _ in valid])

    async def read(self) -> None:
        """Read what is new in the database.

        Raises:
            StoreUnavailable: when the database fails.
        """
        began_at = time.monotonic()
        seen = await self._store.seen()
        changed = [
            version
            for version, at in seen.items()
            if version not in self._versions or self._versions[version].seen_at != at
        ]
        loaded = await self._store.load(changed) if changed else []
        known = {version: kept for version, kept in self._versions.items() if version in seen}
        self._versions = known | {f"{version.kind.name}:{version.kind.version}": version for version in loaded}
        before, self._by_name = self._by_name.keys(), {}
        for version in self._versions.values():
            self._by_name.setdefault(version.kind.name, []).append(version)
        self._read_at = began_at
        if new := sorted(self._by_name.keys() - before):
            log.info("kinds_known", kinds=new)
            self.on_new()

    async def run(self) -> None:
        """Keep the kinds up to date for ever."""
        while True:
            try:
                await self.read()
                await self._tidy()
            except StoreUnavailable as error:
                log.warning("kinds_not_read", reason=str(error))
            await asyncio.sleep(READ_EVERY_S)

    async def _tidy(self) -> None:
        """Note which versions are served, and forget those that no longer count."""
        now, served = self._now(), self._served()
        touched, forgotten = [], []
        for name, versions in self._by_name.items():
            for place, version in enumerate(in_order(versions, served.get(name, ()))):
                identity = f"{name}:{version.kind.version}"
                if version.kind.version in served.get(name, ()):
                    if now - version.seen_at > TOUCH_EVERY:
                        touched.append(identity)
                elif place and (now - version.seen_at > UNSERVED_KEPT or place >= VERSIONS_KEPT):
                    forgotten.append(identity)
        if touched:
            await self._store.touch(touched, now)
        if forgotten:
            await self._store.forget(forgotten)
            log.info("kind_versions_forgotten", versions=forgotten)


def in_order(versions: Sequence[KindVersion], served: Collection[str]) -> list[KindVersion]:
    """Put versions into the order in which they count: those that are served, then those that were seen last.

    Among those that are served, the one that was announced last for the first time comes first.
    """
    return sorted(
        versions,
        key=lambda version: (
            (version.kind.version in served, version.first_at)
            if version.kind.version in served
            else (False, version.seen_at)
        ),
        reverse=True,
    )
