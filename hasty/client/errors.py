"""What can go wrong when Hasty is asked for something.

HastyError                   everything below
├── Unreachable              no answer, however often it was asked
├── UnexpectedAnswer         an answer that no Hasty gives: another service is at this URL; `request_id`
├── Refused                  an answer that says no: `problem`, `status`, `detail`, `request_id`
│   ├── InvalidRequest       the request is malformed, or too large
│   │   ├── BadInput         the input does not fit the kind: `errors`
│   │   ├── UnknownKind      no such kind: `nearest`
│   │   └── IdempotencyMismatch   the idempotency key was used with another request
│   ├── NoSuchJob            no job has this id
│   ├── KeyTaken             another job has the key: `job_id`, `retry_after_s`
│   ├── StillProcessing      the job has not ended, so it cannot be repeated: `job_id`
│   ├── Unavailable          Hasty is there and cannot answer now, however often it was asked
│   └── ServerError          a defect in Hasty
├── WaitTimeout              the wait ran out: `job`
└── NoResult                 a job has no output: `job`
    ├── JobFailed
    ├── JobCancelled
    └── JobNotEnded
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hasty.client.effects import Answer

if TYPE_CHECKING:  # a job's result raises these errors, so `model` imports this module
    from hasty.client.model import Job

PROBLEM_TYPE: Final = "urn:hasty:problem:"
REQUEST_ID: Final = "x-request-id"
"""The header with which Hasty names a request."""

SERVER_ERRORS: Final = 500
BY_OTHERS: Final = frozenset({429, 502, 503, 504})
"""What a proxy in between says when Hasty cannot be reached."""


class HastyError(Exception):
    """Something that Hasty was asked for did not succeed; the text says what, and what to do."""


class Unreachable(HastyError):
    """No answer came, however often it was asked."""


class UnexpectedAnswer(HastyError):
    """The answer is none that Hasty gives: another service is at this URL.

    `request_id` is what the answer calls the request, where it does: by it, logs tell what answered.
    """

    def __init__(self, what: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.request_id = (headers or {}).get(REQUEST_ID)

    def __str__(self) -> str:
        return super().__str__() if self.request_id is None else f"{super().__str__()} (request {self.request_id})"


@dataclass(frozen=True, slots=True)
class InputError:
    """What is wrong with one place of an input: `pointer` is an RFC 6901 pointer into it."""

    pointer: str
    detail: str


class Refused(HastyError):
    """Hasty answered, and did not do as it was asked.

    `problem` is the name in docs/api.md, `status` HTTP's, `request_id` what the server's logs call the request.
    """

    def __init__(self, status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status: Final = status
        self.problem: Final = str(document.get("type", "")).removeprefix(PROBLEM_TYPE)
        self.detail: Final = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
        self.request_id: Final = headers.get(REQUEST_ID)
        self.retry_after_s: Final = retry_after_s(headers)
        self._document = document
        # What is no fault of the request's is looked up in the logs.
        known = self.request_id is not None and status >= SERVER_ERRORS
        super().__init__(f"{self.detail} (request {self.request_id})" if known else self.detail)

    @property
    def job_id(self) -> str | None:
        """The job that is in the way, where there is one."""
        found = self._document.get("job_id")
        return found if isinstance(found, str) else None


class InvalidRequest(Refused):
    """The request is malformed, or too large."""


class BadInput(InvalidRequest):
    """The input does not fit the kind."""

    @property
    def errors(self) -> Sequence[InputError]:
        """What is wrong, place by place."""
        return tuple(InputError(each["pointer"], each["detail"]) for each in self._document.get("errors") or ())

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *(f"{each.pointer or 'input'}: {each.detail}" for each in self.errors)])


class UnknownKind(InvalidRequest):
    """No job-server has ever announced the kind."""

    @property
    def nearest(self) -> str | None:
        """The known name that looks most like it, if one does."""
        found = self._document.get("nearest")
        return found if isinstance(found, str) else None


class IdempotencyMismatch(InvalidRequest):
    """The idempotency key was used with another request."""


class NoSuchJob(Refused):
    """No job has this id."""


class KeyTaken(Refused):
    """Another job, `job_id`, has the key; after `retry_after_s` seconds it may be free."""


class StillProcessing(Refused):
    """The job has not ended, so there is nothing to repeat."""


class Unavailable(Refused):
    """Hasty is there and cannot answer now, however often it was asked."""


class ServerError(Refused):
    """A defect in Hasty: its logs tell more, under the request's id."""


class WaitTimeout(HastyError):
    """A job did not end in the time that its caller had; it goes on. `job` is how it was seen last."""

    def __init__(self, job: Job, timeout_s: float) -> None:
        super().__init__(f"job {job.id} has not ended within {timeout_s:g} s: {job.why}")
        self.job: Final = job


class NoResult(HastyError):
    """A job has no output; `job` tells why."""

    def __init__(self, job: Job, why: str) -> None:
        super().__init__(f"job {job.id} {why}")
        self.job: Final = job


class JobFailed(NoResult):
    """A job failed."""


class JobCancelled(NoResult):
    """A job was cancelled."""


class JobNotEnded(NoResult):
    """A job has not ended yet."""


_BY_PROBLEM: Final[Mapping[str, type[Refused]]] = {
    "bad-input": BadInput,
    "unknown-kind": UnknownKind,
    "idempotency-mismatch": IdempotencyMismatch,
    "no-such-job": NoSuchJob,
    "key-taken": KeyTaken,
    "still-processing": StillProcessing,
    "busy": Unavailable,
    "disk-full": Unavailable,
    "unavailable": Unavailable,
    "internal-error": ServerError,
}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds an answer asks to wait, if it does."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def error_of(answer: Answer) -> HastyError:
    """Return the error that an answer is."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if isinstance(document, dict) and str(document.get("type", "")).startswith(PROBLEM_TYPE):
        return refused(answer.status, document, answer.headers)
    if answer.status in BY_OTHERS:
        return Unavailable(answer.status, {}, answer.headers)
    what = f"the answer is none of Hasty's, with HTTP status {answer.status}: is the URL right?"
    return UnexpectedAnswer(what, answer.headers)


def refused(status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> Refused:
    """Return the error that a problem document is."""
    problem = str(document.get("type", "")).removeprefix(PROBLEM_TYPE)
    kind = _BY_PROBLEM.get(problem, InvalidRequest if status < SERVER_ERRORS else ServerError)
    return kind(status, document, headers)
