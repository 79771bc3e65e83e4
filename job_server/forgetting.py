"""Forgetting: an api-server says which jobs it has deleted, and their endings are deleted after them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, Field, ValidationError

from hasty.jobs import turn_id
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

FORGET_SUBJECT: Final = "hasty.forget"
"""Where every job-server hears what to forget, see `_Note`."""

FORGOT_SUBJECT: Final = "hasty.forgot"
"""Where a job-server says that it has deleted what a note names: the note's id."""

WAITING_MAX: Final = 100
"""More notes than that are not kept: they are published again."""


class _Note(BaseModel):
    """What is told: by job, how many turns it had."""

    note: Annotated[str, Field(max_length=64, pattern="^[0-9a-f]+$")]
    turns: Annotated[Mapping[str, Annotated[int, Field(ge=1, le=100_000)]], Field(max_length=1_000)]


class Endings(Protocol):
    """What keeps endings; see `job_server.store.EndingStore`."""

    async def forget(self, turn_ids: Sequence[str]) -> None: ...  # noqa: D102 - the class says where


class Forgetting:
    """Deletes the endings of forgotten jobs, one note after the other.

    All job-servers hear every note, and the first one to delete leaves nothing to do for the others.
    """

    def __init__(self, endings: Endings, publish: Callable[[bytes], Awaitable[None]]) -> None:
        self._endings = endings
        self._publish = publish
        self._notes: asyncio.Queue[_Note] = asyncio.Queue(WAITING_MAX)

    def hear(self, data: bytes) -> None:
        """Take a note; never raises."""
        try:
            note = _Note.model_validate_json(data)
        except ValidationError as error:
            log.debug("note_malformed", reason=str(error))
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._notes.put_nowait(note)

    async def run(self) -> None:
        """Delete for ever."""
        while True:
            await self.forget_next()

    async def forget_next(self) -> None:
        """Delete what the next note names, and say so; when the database fails, the note is published again."""
        note = await self._notes.get()
        turn_ids = [turn_id(job_id, n) for job_id, count in note.turns.items() for n in range(1, count + 1)]
        try:
            await self._endings.forget(turn_ids)
        except StoreUnavailable as error:
            log.warning("endings_not_forgotten", reason=str(error))
        else:
            await self._publish(note.note.encode())
