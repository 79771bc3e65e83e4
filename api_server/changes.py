"""Changes: what happens to jobs anywhere, for everybody who follows a list at this api-server.

One look a second serves all of them: the jobs that were created since the look before, and those to which endings were
applied. Nothing is looked for while nobody follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from api_server.domain import JobRecord
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
CHANGES_MAX: Final = 1_000
"""So many created and so many ended jobs are passed on in each look; of more, the newest."""

OVERLAP: Final = timedelta(seconds=1)
"""A job shows a moment after its creation time, so each look begins before the end of the one before."""

HELD_MAX: Final = 2_000
"""So many changes wait for a follower that reads slowly; it is told when some were dropped. All followers hold the same
records, so this is also what all of them hold together."""


class Jobs(Protocol):
    """What finds jobs; see `api_server.store.listing.ListingStore`."""

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Follower:
    """Somebody who follows: what has changed and was not taken yet, and whether anything was dropped."""

    def __init__(self) -> None:
        self._held: deque[JobRecord] = deque(maxlen=HELD_MAX)
        self._news = asyncio.Event()
        self._dropped = False

    async def wait(self, wait_s: float) -> None:
        """Return when something has changed, after `wait_s` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        self._news.clear()

    def take(self) -> Iterator[JobRecord]:
        """Take what has changed, one by one, as it is asked for."""
        while self._held:
            yield self._held.popleft()

    def take_dropped(self) -> bool:
        """Whether something was dropped since this was last asked."""
        dropped, self._dropped = self._dropped, False
        return dropped

    def put(self, records: Iterable[JobRecord], *, dropped: bool) -> None:
        """Pass changes on."""
        for record in records:
            dropped = dropped or len(self._held) == HELD_MAX
            self._held.append(record)
        self._dropped = self._dropped or dropped
        self._news.set()


class Changes:
    """Passes changes on to followers. `now` gives the database's time."""

    def __init__(self, jobs: Jobs, *, now: Callable[[], datetime]) -> None:
        self._jobs = jobs
        self._now = now
        self._followers: set[Follower] = set()
        self._ended: dict[str, None] = {}
        self._created: set[str] = set()
        self._since: datetime | None = None

    @contextlib.contextmanager
    def followed(self) -> Iterator[Follower]:
        """Follow until the block is left; `http.streams` bounds how many do."""
        follower = Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def note(self, job_ids: Iterable[str]) -> None:
        """Look at these jobs: endings were applied to them."""
        if self._followers:
            self._ended |= dict.fromkeys(job_ids)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._followers:
                self._since, self._created = None, set()
                self._ended.clear()
                continue
            try:
                await self._look()
            except StoreUnavailable as error:
                log.debug("changes_not_looked_for", reason=str(error))

    async def _look(self) -> None:
        now = self._now()
        since = now - OVERLAP if self._since is None else self._since - OVERLAP
        found = {each.job.job_id: each for each in await self._jobs.created_between(since, now, CHANGES_MAX)}
        ended = list(self._ended)[-CHANGES_MAX:]
        dropped = len(found) >= CHANGES_MAX or len(self._ended) > len(ended)
        self._ended.clear()
        records = {job_id: found[job_id] for job_id in reversed(found) if job_id not in self._created}
        self._since, self._created = now, set(found)
        if ended:
            records |= await self._jobs.records(ended)
        if not records and not dropped:
            return
        for follower in self._followers:
            follower.put(records.values(), dropped=dropped)
