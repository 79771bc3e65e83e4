"""Retention: jobs that ended long ago are forgotten, in small steps.

A key's latest run decides whether the key may have another job, so it is deleted with care. First it is marked; whoever
looks the key up from then on takes the mark away before deciding (see `api_server.store.runs`). A mark that has stood
for `MARKED_FOR` shows that nobody still decides on what it read before; only such a run is sealed and deleted. So no
two api-servers decide on different runs of one key.

The endings of jobs are in the job-servers' database, and are deleted after the jobs: what is to be deleted there is
noted before the jobs are deleted, and told until a job-server says that it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from api_server.domain import Note, OldJob
from api_server.metrics import FORGOTTEN
from hasty.jobs import TERMINAL, key_of_place
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

FORGET: Final = "hasty.forget"
"""Where job-servers are told which endings to delete: ``{"note": id, "turns": {job_id: number of turns}}``."""

FORGOT: Final = "hasty.forgot"
"""Where a job-server says that it has deleted what a note names: the note's id."""

STEP_MAX: Final = 500
PAUSE_S: Final = 0.1
"""Between two steps: callers come first."""

PASS_EVERY_S: Final = 60.0
MARKED_FOR: Final = timedelta(seconds=30)
"""Longer than any decision on a key takes, from its look-up to its insert."""

NOTES_MAX: Final = 20
ANSWERED_WITHIN_S: Final = 5.0
"""How long job-servers have to delete what a few notes name, before these are published again in the next pass."""

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No job is older."""

FIRST_WIDTH: Final = timedelta(days=30)
"""How much of the past is read in the first step; the others follow from how many jobs there were."""

NARROWEST: Final = timedelta(milliseconds=1)


class Store(Protocol):
    """What forgets; see `api_server.store.retention.RetentionStore`."""

    async def old(self, first: datetime, last: datetime, limit: int) -> list[OldJob]: ...
    async def latest_numbers(self, object_ids: Sequence[str], /) -> dict[str, int]: ...
    async def mark(self, job_ids: Sequence[str], now: datetime) -> None: ...
    async def seal(self, job_ids: Sequence[str], marked_before: datetime) -> list[str]: ...
    async def delete(self, job_ids: Sequence[str]) -> None: ...
    async def note(self, note: Note) -> None: ...
    async def notes(self, limit: int) -> list[Note]: ...
    async def drop_notes(self, note_ids: Sequence[str]) -> None: ...
    async def existing(self, job_ids: Sequence[str]) -> set[str]: ...
    async def forget_requests(self, before: datetime) -> None: ...


class Retention:
    """Forgets jobs that ended more than `keep_for` ago.

    `now` gives the database's time; `is_chosen` whether it is this api-server that forgets; `cooldown_of` the cooldown
    of a kind, of the root kind for None; `publish` reaches the job-servers, or nobody.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime],
        keep_for: timedelta,
        is_chosen: Callable[[], Awaitable[bool]],
        cooldown_of: Callable[[str | None], timedelta],
        publish: Callable[[bytes], Awaitable[None]],
        step_max: int = STEP_MAX,
        answered_within_s: float = ANSWERED_WITHIN_S,
    ) -> None:
        self._store = store
        self._now = now
        self._keep_for = keep_for
        self._is_chosen = is_chosen
        self._cooldown_of = cooldown_of
        self._publish = publish
        self._step_max = step_max
        self._answered_within_s = answered_within_s
        self._unanswered: set[str] = set()
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Forget for ever; nothing at all, where everything is to be kept."""
        every_s = min(PASS_EVERY_S, max(self._keep_for.total_seconds() / 4, 0.5))
        while self._keep_for > timedelta(0):
            await self.once()
            await asyncio.sleep(every_s)

    async def once(self) -> None:
        """Forget what is old enough, if it is this api-server's turn."""
        try:
            if await self._is_chosen():
                await self.forget()
        except StoreUnavailable as error:
            log.warning("jobs_not_forgotten", reason=str(error))

    async def forget(self) -> int:
        """Forget what is old enough, and tell the job-servers; how many jobs were forgotten.

        Raises:
            StoreUnavailable: when the database fails; what was not forgotten is next time.
        """
        cutoff = self._now() - self._keep_for
        forgotten, first, width = 0, BEGINNING, FIRST_WIDTH
        while first < cutoff:
            last = min(first + width, cutoff)
            rows = await self._store.old(first, last, self._step_max)
            gone = await self._step(rows, cutoff) if rows else 0
            forgotten += gone
            if len(rows) < self._step_max:
                first, width = last + NARROWEST, width * 2
                continue
            width = max(rows[-1].created_at - rows[0].created_at, NARROWEST)
            is_further = gone > 0 or rows[-1].created_at > first
            first = rows[-1].created_at if is_further else first + NARROWEST
            await asyncio.sleep(PAUSE_S)
        await self._store.forget_requests(cutoff)
        while await self._publish_notes():
            pass
        if forgotten:
            FORGOTTEN.inc(forgotten)
            log.info("jobs_forgotten", jobs=forgotten, ended_before=cutoff.isoformat())
        return forgotten

    def hear(self, data: bytes) -> None:
        """Take a job-server's word that it has deleted what a note names; never raises."""
        self._unanswered.discard(data.decode("ascii", "replace"))
        if not self._unanswered:
            self._answered.set()

    async def _step(self, rows: Sequence[OldJob], cutoff: datetime) -> int:
        now = self._now()
        ended = [row for row in rows if row.status in TERMINAL and row.ended_at is not None and row.ended_at <= cutoff]
        keyed = [row for row in ended if key_of_place(row.place) is not None]
        latest = await self._store.latest_numbers(list({row.place for row in keyed})) if keyed else {}
        last_runs = [row for row in keyed if row.run >= latest.get(row.place, row.run)]
        resting = [row for row in last_runs if row.created_at + self._cooldown_of(row.kind) <= now]
        unmarked = [row.job_id for row in resting if row.marked_at is None]
        if unmarked:
            await self._store.mark(unmarked, now)
        marked_before = now - MARKED_FOR
        to_seal = [row for row in resting if row.marked_at is not None and row.marked_at <= marked_before]
        held_back = {row.job_id for row in last_runs}
        free = [row for row in ended if row.job_id not in held_back]
        if not free and not to_seal:
            return 0
        # Before anything is deleted, so that nothing is left behind whatever happens then.
        turns = {row.job_id: row.turns for row in (*free, *to_seal)}
        await self._store.note(Note(secrets.token_hex(12), turns))
        sealed = await self._store.seal([row.job_id for row in to_seal], marked_before) if to_seal else []
        gone = [*(row.job_id for row in free), *sealed]
        await self._store.delete(gone)
        return len(gone)

    async def _publish_notes(self) -> bool:
        """Publish some notes, and drop those that are answered; whether there may be more to publish."""
        notes = await self._store.notes(NOTES_MAX)
        if not notes:
            return False
        self._answered.clear()
        self._unanswered = {note.note_id for note in notes}
        for note in notes:
            # A job that could not be deleted, or was looked up and stays, keeps its endings.
            kept = await self._store.existing(list(note.turns))
            turns = {job_id: count for job_id, count in note.turns.items() if job_id not in kept}
            await self._publish(json.dumps({"note": note.note_id, "turns": turns}, separators=(",", ":")).encode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._answered_within_s):
                await self._answered.wait()
        answered = [note.note_id for note in notes if note.note_id not in self._unanswered]
        self._unanswered = set()
        await self._store.drop_notes(answered)
        return len(answered) == len(notes)
