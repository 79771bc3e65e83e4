"""Every call of the client, as a generator of effects; see `effects`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from hasty.client.effects import Answer, Call, Calls, Emit, NoAnswer, Open, Pause, Read, Request
from hasty.client.errors import PROBLEM_TYPE, REQUEST_ID, Refused, UnexpectedAnswer, WaitTimeout, refused
from hasty.client.exchange import Outage, RetryPolicy, document_of, exchange, failed, reading, reply_of
from hasty.client.inputs import as_json
from hasty.client.model import Job, NewJob, decoded
from hasty.client.sse import Parser, TooLong

T = TypeVar("T")

EVENT_STREAM: Final = "text/event-stream"
POLL_S: Final = 30.0
"""A wait asks for the outcome so many seconds at a time."""

POLL_GRACE_S: Final = 15.0
"""So much later than asked for, an answer may still come."""

POLL_INTERVAL_S: Final = 0.5
"""A server that stops answers its waiters early: they come back no faster than this."""

STREAM_SILENCE_S: Final = 20.0
"""A stream has a comment every five seconds: one that is silent for so long is dead."""

BATCH_S: Final = 40.0
PAGE: Final = 100
BATCH_MAX: Final = 1_000
BATCH_BODY_MAX: Final = 1024 * 1024

JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Every id is a UUID."""

_HEAD, _TAIL = b'{"jobs":[', b"]}"
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,190}")
_NEWS: Final = frozenset({"why"})
"""What changes with the time alone, and is no event."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for of the jobs that are made; see `with_options`."""

    delay_s: float = 0
    attempts: int | None = None
    labels: tuple[str, ...] = ()
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        key = self.idempotency_key
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            raise ValueError(f"idempotency_key is {key!r}: it must have 1 to 190 visible ASCII characters")

    @property
    def key(self) -> str:
        """The idempotency key of one request: the caller's, or a new one, so that asking again makes no second job."""
        return self.idempotency_key or uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class V1:
    """The calls, with what they share."""

    retry_policy: RetryPolicy
    options: Options = field(default=Options())

    def submit(self, kind: str, values: Mapping[str, Any]) -> Call[Job]:
        """Make a job."""
        body = _member(NewJob(kind, values), self.options)
        return self._job(Request("POST", "/v1/jobs", body, {"idempotency-key": self.options.key}))

    def get(self, job_id: str) -> Call[Job]:
        """Read a job."""
        return self._job(Request("GET", _path(job_id)))

    def cancel(self, job_id: str) -> Call[Job]:
        """Cancel a job."""
        return self._job(Request("POST", _path(job_id, "/cancel")))

    def retry(self, job_id: str) -> Call[Job]:
        """Make a job again."""
        return self._job(Request("POST", _path(job_id, "/retry"), headers={"idempotency-key": self.options.key}))

    def wait(self, job_id: str, timeout_s: float | None) -> Call[Job]:
        """Read a job until it has ended."""
        clock = self.retry_policy.clock
        deadline = None if timeout_s is None else clock() + timeout_s
        while True:
            asked_at = clock()
            left_s = POLL_S if deadline is None else max(0.0, min(POLL_S, deadline - asked_at))
            wait = {"wait": f"{int(left_s) if left_s >= 1 else round(left_s, 3)}"}
            request = Request("GET", _path(job_id), query=wait, timeout_s=left_s + POLL_GRACE_S)
            answer = yield from exchange(self.retry_policy, request, until=deadline)
            with reading(answer):
                job = decoded(Job, document_of(answer))
            if job.ended:
                return job
            if deadline is not None and clock() >= deadline:
                raise WaitTimeout(job, timeout_s or 0)
            if (early_s := min(POLL_INTERVAL_S, left_s) - (clock() - asked_at)) > 0:
                yield Pause(early_s)

    def events(self, job_id: str) -> Calls[Job]:
        """Read a job at each change, to its outcome."""
        outage, latest, last_id = Outage(self.retry_policy), None, ""
        while True:
            headers = {"accept": EVENT_STREAM, "cache-control": "no-store"}
            headers |= {"last-event-id": last_id} if last_id else {}
            opened = failed(reply_of((yield Open(Request("GET", _path(job_id), None, headers, {}, STREAM_SILENCE_S)))))
            failure = opened.failure
            if failure is None and not _streams(opened.answer):
                # There is no more to come: the stream has given the outcome before.
                yield Emit((yield from self.get(job_id)))
                return
            parser = Parser()
            while failure is None:
                chunk: bytes | NoAnswer = yield Read()
                if isinstance(chunk, NoAnswer) or not chunk:
                    failure = chunk or NoAnswer("the stream ended")
                    break
                outage.over()
                for job, last_id in _jobs(parser, chunk, opened.answer):  # noqa: B007 - it is the latest event's that is sent
                    if latest is None or _changed(latest, job):
                        latest = job
                        yield Emit(job)
                    if job.ended:
                        return
            yield Pause(outage.pause_after(failure))

    def jobs(
        self, filters: Mapping[str, str], limit: int | None, on_searched: Callable[[datetime], None] | None = None
    ) -> Calls[Job]:
        """Read a list, page by page."""
        given = 0
        after: dict[str, str] = {}
        while limit is None or given < limit:
            size = PAGE if limit is None else min(PAGE, limit - given)
            query = {**filters, **after, "limit": str(size)}
            answer = yield from self._read("/v1/jobs", query)
            with reading(answer):
                page = document_of(answer)
                found = [decoded(Job, each) for each in _members(page, "data")]
            for job in found:
                given += 1
                yield Emit(job)
            if page.get("next") is None:
                return
            if on_searched is not None and page.get("searched_back_to") is not None:
                on_searched(datetime.fromisoformat(page["searched_back_to"]))
            after = {"after": page["next"]}

    def submit_many(self, jobs: Iterable[NewJob]) -> Call[list[Job | Refused]]:
        """Make jobs, in as few requests as their number and size allow."""
        results: list[Job | Refused] = []
        key = self.options.key
        members = [_member(each, self.options) for each in jobs]
        for n, chunk in enumerate(_chunks(members)):
            if len(chunk) == 1 and _size(chunk) > BATCH_BODY_MAX:
                results.append(
                    _refusal(413, "too-large", f"a job has {len(chunk[0])} bytes of JSON: pass a URL instead")
                )
                continue
            body = _HEAD + b",".join(chunk) + _TAIL
            headers = {"idempotency-key": f"{key}:{n}"}
            request = Request("POST", "/v1/batches", body, headers, timeout_s=BATCH_S)
            answer = yield from exchange(self.retry_policy, request)
            with reading(answer):
                results += [_result(each, answer) for each in _members(document_of(answer), "results")]
        return results

    def list_of(self, cls: type[T], path: str) -> Call[list[T]]:
        """Read all members of a list without pages."""
        answer = yield from self._read(path, {})
        with reading(answer):
            return [decoded(cls, each) for each in _members(document_of(answer), "data")]

    def one_of(self, cls: type[T], path: str) -> Call[T]:
        """Read one thing."""
        answer = yield from self._read(path, {})
        with reading(answer):
            return decoded(cls, document_of(answer))

    def _job(self, request: Request) -> Call[Job]:
        answer = yield from exchange(self.retry_policy, request)
        with reading(answer):
            return decoded(Job, document_of(answer))

    def _read(self, path: str, query: Mapping[str, str]) -> Call[Answer]:
        return exchange(self.retry_policy, Request("GET", path, query=query))


def id_of(job: str | Job) -> str:
    """Return a job's id."""
    return job.id if isinstance(job, Job) else job


def filters(**wanted: str | datetime | None) -> dict[str, str]:
    """Return the filters of a list, as the query has them.

    Raises:
        ValueError: when a time has no time zone.
    """
    for name, value in wanted.items():
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"{name} has no time zone: write it as in datetime.now(UTC)")
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in wanted.items()
        if value is not None
    }


def timeline_path(job_id: str) -> str:
    """Return where a job's timeline is.

    Raises:
        NoSuchJob: when this cannot be a job's id.
    """
    return _path(job_id, "/timeline")


def _path(job_id: str, what: str = "") -> str:
    if not JOB_ID.fullmatch(job_id):
        raise _refusal(404, "no-such-job", f"no job with id: {job_id}")
    return f"/v1/jobs/{job_id}{what}"


def _refusal(status: int, problem: str, detail: str) -> Refused:
    """Return what the server would say."""
    return refused(status, {"type": f"{PROBLEM_TYPE}{problem}", "detail": detail}, {})


def _member(new: NewJob, options: Options) -> bytes:
    """Write a job as it is posted; what it leaves open is as the options say."""
    body: dict[str, Any] = {"kind": new.kind, "input": new.input}
    if delay_s := new.delay_s or options.delay_s:
        body["delay_s"] = delay_s
    if attempts := new.attempts or options.attempts:
        body["attempts"] = attempts
    if labels := new.labels or options.labels:
        body["labels"] = labels
    return as_json(body)


def _size(chunk: Sequence[bytes]) -> int:
    return len(_HEAD) + sum(map(len, chunk)) + len(chunk) - 1 + len(_TAIL)


def _chunks(members: Iterable[bytes]) -> Iterable[list[bytes]]:
    chunk: list[bytes] = []
    size = len(_HEAD) + len(_TAIL)
    for member in members:
        if chunk and (len(chunk) == BATCH_MAX or size + len(member) + 1 > BATCH_BODY_MAX):
            yield chunk
            chunk, size = [], len(_HEAD) + len(_TAIL)
        chunk.append(member)
        size += len(member) + 1
    if chunk:
        yield chunk


def _members(document: Any, name: str) -> list[Any]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise UnexpectedAnswer("the answer is none of Hasty's: is the URL right?")
    return found


def _result(member: Any, answer: Answer) -> Job | Refused:
    if "job" in member:
        return decoded(Job, member["job"])
    request_id = {name: value for name, value in answer.headers.items() if name == REQUEST_ID}
    return refused(member["status"], member["problem"], request_id)


def _streams(answer: Answer) -> bool:
    """Whether an answer is a stream; False when there is nothing more to come."""
    if answer.status == 204:  # noqa: PLR2004 - HTTP's number
        return False
    if answer.headers.get("content-type", "").partition(";")[0].strip() != EVENT_STREAM:
        what = "the answer is no event stream, so it is none of Hasty's: is the URL right?"
        raise UnexpectedAnswer(what, answer.headers)
    return True


def _jobs(parser: Parser, chunk: bytes, answer: Answer) -> Iterable[tuple[Job, str]]:
    try:
        for message in parser.feed(chunk):
            if message.name == "job":
                with reading(answer):
                    job = decoded(Job, document_of(Answer(200, {}, message.data.encode())))
                yield job, message.id
    except TooLong as error:
        raise UnexpectedAnswer(str(error), answer.headers) from None


def _changed(before: Job, now: Job) -> bool:
    if now.revision < before.revision:
        return False
    return any(now.raw.get(name) != value for name, value in before.raw.items() if name not in _NEWS)
