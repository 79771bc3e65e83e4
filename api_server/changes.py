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
ROWS_MAX: Final = 500
"""So many of the jobs that were created lately are found in each look, the newest."""

CHANGES_MAX: Final = 200
"""So many created and so many ended jobs are passed on in each look; of more, the newest. Whoever follows is told that
there were more: nobody reads that many a second, and whole jobs are dear."""

OVERLAP: Final = timedelta(seconds=1)
"""A job shows a moment after its creation time, so each look begins before the end of the one before."""

HELD_MAX: Final = 2_000
"""So many changes wait for a follower that reads slowly; it is told when some were dropped. All followers hold the same
changes, so this is also what all of them hold together."""


class Jobs(Protocol):
    """What finds jobs; see `api_server.store.listing.ListingStore`."""

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Change:
    """A job as it is after a change. What any follower makes of it is `shown`, for all of them."""

    __slots__ = ("record", "shown")

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.shown: bytes | None = None


class Follower:
    """Somebody who follows: what has changed and was not taken yet, and whether anything was dropped."""

    def __init__(self) -> None:
        self._held: deque[Change] = deque(maxlen=HELD_MAX)
        self._news = asyncio.Event()
        self._dropped = False

    async def wait(self, wait_s: float) -> None:
        """Return when something has changed, after `wait_s` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        self._news.clear()

    def take(self) -> Iterator[Change]:
        """Take what has changed, one by one, as it is asked for."""
        while self._held:
            yield self._held.popleft()

    def take_dropped(self) -> bool:
        """Whether something was dropped since this was last asked."""
        dropped, self._dropped = self._dropped, False
        return dropped

    def put(self, changes: Iterable[Change], *, dropped: bool) -> None:
        """Pass changes on."""
        for change in changes:
            dropped = dropped or len(self._held) == HELD_MAX
            self._held.append(change)
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
        found = {each.job.job_id: each for each in await self._jobs.created_between(since, now, ROWS_MAX)}
        created = [job_id for job_id in reversed(found) if job_id not in self._created]
        ended = list(self._ended)
        dropped = len(found) >= ROWS_MAX or max(len(created), len(ended)) > CHANGES_MAX
        self._ended.clear()
        self._since, self._created = now, set(found)
        records = {job_id: found[job_id] for job_id in created[-CHANGES_MAX:]}
        if ended:
            records |= await self._jobs.records(ended[-CHANGES_MAX:])
        if not records and not dropped:
            return
        changes = [Change(record) for record in records.values()]
        for follower in self._followers:
            follower.put(changes, dropped=dropped)
