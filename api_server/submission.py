"""Submission: which requests become jobs of a kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from api_server.domain import Admit, Claim, JobRecord, Run, TooSoon, admit
from api_server.errors import BadInput, DiskFull, IdempotencyMismatch, InputProblem, TooSoonError, UnknownKind
from api_server.kinds import Kinds
from api_server.metrics import ACCEPTED, REFUSED
from api_server.schemas import Schemas, pointer
from hasty.ids import new_job_id
from hasty.jobs import OBJECT_ID_MAX, Job, Kind, Task, Way, object_id_problem, place_of
from hasty.keys import KeyProblem, key_of
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher
from hasty.values import quick_dataclass

SUBMIT_BATCH_MAX: Final = 128
WAITING_MAX: Final = 10_000
TIMEOUT_S: Final = 2.5
"""As an admission's."""

ROOT_INPUT: Final = json.dumps(
    {
        "type": "object",
        "properties": {"object_id": {"type": "string", "minLength": 1, "maxLength": OBJECT_ID_MAX}},
        "required": ["object_id"],
        "additionalProperties": False,
    },
    separators=(",", ":"),
)
"""The schema of what a job of the root kind takes."""


@quick_dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for: `input` is a JSON text, `value` what it says.

    `idempotency` is the key under which the request may be repeated, and a hash of its body.
    """

    kind: str
    input: str
    value: object
    delay_s: float = 0
    attempts: int | None = None
    labels: tuple[str, ...] = ()
    idempotency: tuple[str, str] | None = None
    retry_of: str | None = None
    batch: str | None = None


@quick_dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was stored; `replayed` when that was for an earlier request with the same idempotency key."""

    record: JobRecord
    replayed: bool = False


@quick_dataclass(frozen=True, slots=True)
class _Draft:
    """A request that was found valid: the job it becomes, but for its id, run number and time.

    Without a `place`, it gets one of its own; `exclusive` and `cooldown` are those of the place.
    """

    request: Request
    task: Task | None
    place: str | None
    exclusive: bool
    cooldown: timedelta


class Runs(Protocol):
    """What is stored of places' runs; see `api_server.store.runs.RunStore`."""

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]: ...


class Records(Protocol):
    """What reads jobs; see `api_server.store.jobs.JobStore`."""

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


class Requests(Protocol):
    """What keeps requests with an idempotency key; see `api_server.store.requests.RequestStore`."""

    async def claim(self, claims: Sequence[Claim]) -> dict[str, Claim]: ...


class Stores(Protocol):
    """What stores new jobs; see `api_server.outbox.Outbox`."""

    @property
    def dispatches_of_new(self) -> int: ...
    async def store(self, jobs: Sequence[Job], scheduled: Mapping[str, datetime]) -> set[str]: ...


class Submission:
    """Decides on requests in batches: one look-up and one insert for all that wait.

    `now` gives the database's time; it raises `StoreUnavailable` while that is unknown. `root_kind` names the kind
    whose jobs are also posted with ``POST /``, and `root_cooldown` is theirs. `shortage` says which disk has too little
    space for new jobs, if one has.
    """

    def __init__(  # noqa: PLR0913 - parts, by keyword
        self,
        kinds: Kinds,
        runs: Runs,
        records: Records,
        requests: Requests,
        outbox: Stores,
        *,
        now: Callable[[], datetime],
        root_kind: str,
        root_cooldown: timedelta,
        new_id: Callable[[str | None], str] = new_job_id,
        shortage: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._kinds = kinds
        self._runs = runs
        self._records = records
        self._requests = requests
        self._outbox = outbox
        self._now = now
        self._root_kind = root_kind
        self._root_cooldown = root_cooldown
        self._new_id = new_id
        self._shortage = shortage
        self._schemas = Schemas()
        self._drafts: Batcher[_Draft, Submitted] = Batcher(
            self._store_many,
            name="submissions",
            max_batch=SUBMIT_BATCH_MAX,
            max_waiting=WAITING_MAX,
            timeout_s=TIMEOUT_S,
            timeout_error=StoreUnavailable,
        )

    def submit(self, request: Request, caller: str = "") -> asyncio.Future[Submitted]:
        """Make a job; the future gets it, when it is on disk. Callers wait in rotation.

        Raises, at once or in the future:
            UnknownKind: when no job-server has ever announced the kind.
            BadInput: when the input is not what the kind takes.
            TooSoonError: when another job has the place of the job's key.
            IdempotencyMismatch: when the idempotency key was used with another body.
            StoreUnavailable: when the database fails; the job may or may not exist then.
            Overloaded: when too many requests wait, most of them this caller's.
            DiskFull: when a disk has too little space for new jobs.
        """
        if shortage := self._shortage():
            raise DiskFull(shortage)
        if request.kind == self._root_kind:
            return self._drafts.submit(self._root_draft(request), caller)
        versions = self._kinds.versions(request.kind)
        if not versions:
            return asyncio.ensure_future(self._look_again(request, caller))
        return self._drafts.submit(self._draft(request, versions), caller)

    async def _look_again(self, request: Request, caller: str) -> Submitted:
        """Make a job of a kind that may have been announced a moment ago."""
        versions = await self._kinds.find(request.kind)
        if not versions:
            raise UnknownKind(request.kind, self._kinds.nearest(request.kind))
        return await self._drafts.submit(self._draft(request, versions), caller)

    # -- what is valid --------------------------------------------------------------------------------------------

    def _draft(self, request: Request, versions: Sequence[Kind]) -> _Draft:
        fitting = [kind for kind in versions if not self._schemas.problems(kind.input_schema, request.value)]
        if not fitting:
            raise BadInput(request.kind, self._schemas.problems(versions[0].input_schema, request.value))
        kind = fitting[0]
        task = Task(
            request.kind,
            request.input,
            attempts=request.attempts,
            labels=request.labels,
            versions=tuple(fit.version for fit in fitting),
        )
        key = _key(kind, request.value)
        place = None if key is None else place_of(kind.name, key, "")
        return _Draft(request, task, place, exclusive=True, cooldown=timedelta(seconds=kind.cooldown_s))

    def _root_draft(self, request: Request) -> _Draft:
        """As `POST /` has it: nothing but the object's id is kept of such a request."""
        if problems := self._schemas.problems(ROOT_INPUT, request.value):
            raise BadInput(request.kind, problems)
        object_id = str(_members(request.value)["object_id"])
        if problem := object_id_problem(object_id):
            raise BadInput(request.kind, [InputProblem("/object_id", problem)])
        if request.attempts is not None or request.labels:
            problem = f"a job of the kind {request.kind!r} has neither attempts nor labels of its own"
            raise BadInput(request.kind, [InputProblem("", problem)])
        return _Draft(request, None, object_id, exclusive=False, cooldown=self._root_cooldown)

    # -- what is stored -------------------------------------------------------------------------------------------

    async def _store_many(self, drafts: Sequence[_Draft]) -> list[Submitted | Exception]:
        """Store drafts under the ids that their idempotency keys have; a repetition gets the job that there is."""
        now = self._now()
        results: dict[int, Submitted | Exception] = {}
        # Of several requests with one key in this batch, the first makes the job.
        first: dict[str, int] = {}
        for n, draft in enumerate(drafts):
            if draft.request.idempotency is not None:
                first.setdefault(draft.request.idempotency[0], n)
        repeats = [
            n
            for n, draft in enumerate(drafts)
            if draft.request.idempotency is not None and first[draft.request.idempotency[0]] != n
        ]
        ids = {n: self._new_id(draft.place) for n, draft in enumerate(drafts)}
        if first:
            await self._claim(drafts, first, ids, results, now)
        left = [n for n in range(len(drafts)) if n not in results and n not in repeats]
        results |= await self._decide({n: drafts[n] for n in left}, ids)
        for n in repeats:
            results[n] = _repeated(drafts[n], drafts[first[_key_of(drafts[n])]], results[first[_key_of(drafts[n])]])
        return [results[n] for n in range(len(drafts))]

    async def _claim(
        self,
        drafts: Sequence[_Draft],
        first: Mapping[str, int],
        ids: dict[int, str],
        results: dict[int, Submitted | Exception],
        now: datetime,
    ) -> None:
        """Give drafts the ids of their idempotency keys, and those whose job exists their result."""
        claims = [Claim(key, _hash_of(drafts[n]), ids[n], now) for key, n in first.items()]
        stored = await self._requests.claim(claims)
        earlier = {n: stored[key] for key, n in first.items() if stored[key].job_id != ids[n]}
        records = await self._records.records([claim.job_id for claim in earlier.values()]) if earlier else {}
        for n, claim in earlier.items():
            if claim.body_hash != _hash_of(drafts[n]):
                results[n] = IdempotencyMismatch(claim.key)
            elif claim.job_id in records:
                results[n] = Submitted(records[claim.job_id], replayed=True)
            else:
                # Whoever made the claim went no further, or was refused.
                ids[n] = claim.job_id

    async def _decide(self, drafts: Mapping[int, _Draft], ids: Mapping[int, str]) -> dict[int, Submitted | Exception]:
        """Decide on drafts in their order, and again on those that lost a race."""
        results: dict[int, Submitted | Exception] = {}
        while len(results) < len(drafts):
            undecided = {n: draft for n, draft in drafts.items() if n not in results}
            now = self._now()
            places = list({draft.place for draft in undecided.values() if draft.place is not None})
            latest = await self._runs.latest_runs(places) if places else {}
            dispatches = self._outbox.dispatches_of_new
            jobs: dict[int, Job] = {}
            refused: dict[int, TooSoon] = {}
            for n, draft in undecided.items():
                place = draft.place or place_of("", None, ids[n])
                match admit(latest.get(place), now, draft.cooldown, exclusive=draft.exclusive):
                    case Admit(number):
                        job = jobs[n] = _job(draft, ids[n], place, number, now, dispatches)
                        latest[place] = Run(place, number, job.job_id, now, processing=True)
                    case TooSoon() as too_soon:
                        refused[n] = too_soon
            scheduled = {
                job.job_id: now + timedelta(seconds=drafts[n].request.delay_s)
                for n, job in jobs.items()
                if drafts[n].request.delay_s > 0
            }
            lost = await self._outbox.store(list(jobs.values()), scheduled) if jobs else set()
            stored = {n: job for n, job in jobs.items() if job.job_id not in lost}
            ACCEPTED.inc(len(stored))
            results |= {
                n: Submitted(JobRecord(job, scheduled.get(job.job_id, now), None, None, ()))
                for n, job in stored.items()
            }
            # A refusal may have named a job of this very batch that lost its run number: then it is decided again.
            final = {n: too_soon for n, too_soon in refused.items() if too_soon.job_id not in lost}
            results |= await self._refusals(final, ids)
        return results

    async def _refusals(
        self, refused: Mapping[int, TooSoon], ids: Mapping[int, str]
    ) -> dict[int, Submitted | Exception]:
        """Refuse drafts; one whose place is held by its own job was just stored by another api-server."""
        own = [ids[n] for n, too_soon in refused.items() if too_soon.job_id == ids[n]]
        records = await self._records.records(own) if own else {}
        results: dict[int, Submitted | Exception] = {}
        for n, too_soon in refused.items():
            if ids[n] in records:
                results[n] = Submitted(records[ids[n]], replayed=True)
            else:
                REFUSED.inc()
                results[n] = TooSoonError(too_soon)
        return results


def root_version() -> Kind:
    """Return the root kind as it is described where no handler has taken its place."""
    return Kind("", Way.ASYNC, "", ROOT_INPUT, "{}", description="Sleeps.", key="{object_id}")


def _job(draft: _Draft, job_id: str, place: str, number: int, now: datetime, dispatches: int) -> Job:
    return Job(
        job_id,
        place,
        number,
        now,
        dispatches=0 if draft.request.delay_s > 0 else dispatches,
        task=draft.task,
        retry_of=draft.request.retry_of,
        batch=draft.request.batch,
    )


def _key(kind: Kind, value: object) -> str | None:
    if kind.key is None:
        return None
    try:
        return key_of(kind.key, _members(value))
    except KeyProblem as problem:
        place = "" if problem.field is None else pointer([problem.field])
        raise BadInput(kind.name, [InputProblem(place, str(problem))]) from None


def _members(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _key_of(draft: _Draft) -> str:
    return "" if draft.request.idempotency is None else draft.request.idempotency[0]


def _hash_of(draft: _Draft) -> str:
    return "" if draft.request.idempotency is None else draft.request.idempotency[1]


def _repeated(draft: _Draft, first: _Draft, result: Submitted | Exception) -> Submitted | Exception:
    """Return the result of a request that came with another one of the same idempotency key."""
    if _hash_of(draft) != _hash_of(first):
        return IdempotencyMismatch(_key_of(draft))
    return result if isinstance(result, Exception) else Submitted(result.record, replayed=True)
