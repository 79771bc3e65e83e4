"""Batches: many jobs that are posted in one request, and looked at, cancelled and repeated together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from api_server.cancellation import Cancellation
from api_server.domain import Batch, Claim, JobRecord
from api_server.errors import IdempotencyMismatch, NoSuchBatch
from api_server.repetition import Repetition
from api_server.submission import Request, Submission, Submitted
from api_server.watch import Watch
from hasty.ids import new_job_id
from hasty.jobs import TERMINAL, Status

BATCH_MAX: Final = 1_000
"""So many jobs at most are posted together."""

KEY_SEPARATOR: Final = " "
"""Between a batch's idempotency key and what of the batch it is for: no caller's key contains it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a batch's members, in their order: a job, or why there is none."""

    batch_id: str
    results: Sequence[Submitted | Exception]


class Store(Protocol):
    """What keeps batches; see `api_server.store.batches.BatchStore`."""

    async def keep(self, batch: Batch, now: datetime) -> None: ...
    async def get(self, batch_id: str) -> Batch | None: ...
    async def outcome(self, batch_id: str) -> Mapping[Status, int] | None: ...
    async def keep_outcome(self, batch_id: str, counted: Mapping[Status, int]) -> None: ...
    async def statuses(self, job_ids: Sequence[str]) -> Mapping[str, Status]: ...
    async def counts(self, job_ids: Sequence[str]) -> Mapping[Status, int]: ...
    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Requests(Protocol):
    """What keeps requests with an idempotency key; see `api_server.store.requests.RequestStore`."""

    async def claim(self, claims: Sequence[Claim]) -> dict[str, Claim]: ...


class Batches:
    """Makes batches, and what can be done with one. `now` gives the database's time."""

    def __init__(
        self,
        store: Store,
        requests: Requests,
        submission: Submission,
        cancellation: Cancellation,
        repetition: Repetition,
        watch: Watch,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._requests = requests
        self._submission = submission
        self._cancellation = cancellation
        self._repetition = repetition
        self._watch = watch
        self._now = now

    async def submit(
        self, members: Sequence[Request | Exception], idempotency: tuple[str, str] | None, caller: str = ""
    ) -> Answered:
        """Make the jobs of a batch: each member is decided on by itself, and a bad one stops no other.

        `idempotency` is the key of the whole request and a hash of its body; with it, each member has a key of its own,
        so that a repetition gets the same jobs under the same batch.

        Raises:
            IdempotencyMismatch: when the key was used with another body.
            StoreUnavailable: when the database fails; some of the jobs may exist then.
        """
        batch_id = await self._id(idempotency)
        results = await asyncio.gather(
            *(self._member(_named(member, batch_id, idempotency, n), caller) for n, member in enumerate(members)),
            return_exceptions=True,
        )
        answered = [_expected(result) for result in results]
        job_ids = [result.record.job.job_id for result in answered if isinstance(result, Submitted)]
        await self._store.keep(Batch(batch_id, job_ids), self._now())
        return Answered(batch_id, answered)

    async def counts(self, batch_id: str, wait_s: float = 0, caller: str = "") -> dict[Status, int]:
        """Return how many of a batch's jobs have each status; with `wait_s`, when all have ended or after that time.

        Raises:
            NoSuchBatch: when there is none with this id.
            StoreUnavailable: when the database fails.
            Overloaded: when too many wait.
        """
        outcome = await self._store.outcome(batch_id)
        if outcome is not None:
            return _of_each(outcome)
        batch = await self._get(batch_id)
        deadline = asyncio.get_running_loop().time() + wait_s
        statuses = await self._store.statuses(batch.job_ids) if wait_s > 0 else {}
        for job_id in [job_id for job_id, status in statuses.items() if status not in TERMINAL]:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            await self._watch.until_ended(job_id, left_s, caller)
        counted = await self._store.counts(batch.job_ids)
        ended = sum(jobs for status, jobs in counted.items() if status in TERMINAL)
        if ended == len(batch.job_ids):
            # It stays so: the next who asks need not wait for the count of up to 1,000 jobs.
            await self._store.keep_outcome(batch_id, counted)
        return _of_each(counted)

    async def cancel(self, batch_id: str, caller: str = "") -> None:
        """Ask for all jobs of a batch that have not ended to be cancelled; raises as `counts` does."""
        statuses = await self._store.statuses((await self._get(batch_id)).job_ids)
        await asyncio.gather(
            *(
                self._cancellation.cancel(job_id, caller)
                for job_id, status in statuses.items()
                if status not in TERMINAL
            )
        )

    async def repeat(self, batch_id: str, idempotency: tuple[str, str] | None, caller: str = "") -> Answered:
        """Make a new batch of those jobs that failed or were cancelled; raises as `submit` and `counts` do."""
        records = await self._store.records((await self._get(batch_id)).job_ids)
        wanted = {Status.FAILED, Status.CANCELLED}
        requests = [self._repetition.request(record) for record in records.values() if record.job.status in wanted]
        return await self.submit(requests, idempotency, caller)

    async def _member(self, member: Request | Exception, caller: str) -> Submitted:
        if isinstance(member, Exception):
            raise member
        return await self._submission.submit(member, caller)

    async def _id(self, idempotency: tuple[str, str] | None) -> str:
        batch_id = new_job_id("")
        if idempotency is None:
            return batch_id
        key, body_hash = idempotency
        claim = Claim(f"{key}{KEY_SEPARATOR}batch", body_hash, batch_id, self._now())
        stored = (await self._requests.claim([claim]))[claim.key]
        if stored.body_hash != body_hash:
            raise IdempotencyMismatch(key)
        return stored.job_id

    async def _get(self, batch_id: str) -> Batch:
        batch = await self._store.get(batch_id)
        if batch is None:
            raise NoSuchBatch(batch_id)
        return batch


def _of_each(counted: Mapping[Status, int]) -> dict[Status, int]:
    return {status: counted.get(status, 0) for status in Status}


def _named(
    member: Request | Exception, batch_id: str, idempotency: tuple[str, str] | None, n: int
) -> Request | Exception:
    if isinstance(member, Exception):
        return member
    own = None if idempotency is None else (f"{idempotency[0]}{KEY_SEPARATOR}{n}", idempotency[1])
    return replace(member, batch=batch_id, idempotency=own)


def _expected(result: Submitted | BaseException) -> Submitted | Exception:
    if isinstance(result, Submitted | Exception):
        return result
    raise result
