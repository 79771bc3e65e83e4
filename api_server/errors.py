"""What can go wrong with a request; how it is answered is decided in `api_server.http`.

InvalidRequest   the request asks for something that cannot be; the text says what
TooSoonError     the object's latest job is still in its cooldown, or still holds its key
NoSuchJob        no job has this id
NoSuchBatch      no batch has this id
StillProcessing  the job has not ended, so there is nothing to repeat
DiskFull         a disk has too little space for new jobs
UnknownKind      no job-server has ever announced this kind
BadInput         the input is not what the kind takes
InputTooLarge    the input is longer than a job's may be
IdempotencyMismatch  the idempotency key was used with another body

Two more come from packages that both services use: `hasty.server.mongo.StoreUnavailable`, when the database cannot be
reached or did not answer in time, and `hasty.server.runtime.batching.Overloaded`, when more requests wait than can be
answered in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from api_server.domain import TooSoon


@dataclass(frozen=True, slots=True)
class InputProblem:
    """What is wrong with one place of an input: `pointer` is a JSON Pointer (RFC 6901), `detail` a sentence."""

    pointer: str
    detail: str


class InvalidRequest(Exception):
    """The request asks for something that cannot be; the text says what.

    `pointer` is where in its body (RFC 6901), `parameter` in which of its parameters or headers.
    """

    def __init__(self, text: str, *, pointer: str | None = None, parameter: str | None = None) -> None:
        super().__init__(text)
        self.pointer = pointer
        self.parameter = parameter


class TooSoonError(Exception):
    """The object's latest job is still in its cooldown."""

    def __init__(self, decision: TooSoon) -> None:
        super().__init__(
            f"job {decision.job_id} is still processing"
            if decision.processing
            else f"job {decision.job_id} is in its cooldown for another {decision.retry_after_s:.1f} s"
        )
        self.decision = decision


class NoSuchJob(Exception):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job with id: {job_id}")
        self.job_id = job_id


class NoSuchBatch(Exception):
    """No batch has this id."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"no batch with id: {batch_id}")


class StillProcessing(Exception):
    """The job has not ended, so there is nothing to repeat."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is still processing: wait for its outcome, or cancel it first")
        self.job_id = job_id


class DiskFull(Exception):
    """A disk has too little space for new jobs; the text says which."""


class UnknownKind(Exception):
    """No job-server has ever announced this kind; `nearest` is the known name that looks most like it, if any does."""

    def __init__(self, name: str, nearest: str | None) -> None:
        meant = f": did you mean {nearest}?" if nearest else ": is a job-server with its handler running?"
        super().__init__(f"there is no kind {name!r}{meant}")
        self.name = name
        self.nearest = nearest


class BadInput(Exception):
    """The input is not what the kind takes."""

    def __init__(self, kind: str, problems: Sequence[InputProblem]) -> None:
        super().__init__(f"this input does not fit the kind {kind!r}")
        self.problems = problems


class InputTooLarge(Exception):
    """The input is longer than a job's may be; the text says how long that is."""


class IdempotencyMismatch(Exception):
    """The idempotency key was used with another body before."""
