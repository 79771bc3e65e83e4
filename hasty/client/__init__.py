"""The client of Hasty, for Python: `Hasty` blocks, `AsyncHasty` is for asyncio. Both speak `/v1`; see docs/client.md.

with Hasty() as hasty:
    job = hasty.submit("greet", name="Ada")
    print(hasty.wait(job).result())
"""

from typing import TYPE_CHECKING, Any

from hasty.client.blocking import Hasty
from hasty.client.errors import (
    BadInput,
    HastyError,
    IdempotencyMismatch,
    InputError,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobNotEnded,
    KeyTaken,
    NoResult,
    NoSuchJob,
    Refused,
    ServerError,
    StillProcessing,
    Unavailable,
    UnexpectedAnswer,
    UnknownKind,
    Unreachable,
    WaitTimeout,
)
from hasty.client.model import DeadLetter, Event, Job, JobError, Kind, NewJob, Overview, Progress, Quantiles, Worker

if TYPE_CHECKING:  # loaded by `__getattr__`, so that a client that blocks does not load asyncio
    from hasty.client.asynchronous import AsyncHasty

__all__ = [
    "AsyncHasty",
    "BadInput",
    "DeadLetter",
    "Event",
    "Hasty",
    "HastyError",
    "IdempotencyMismatch",
    "InputError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobNotEnded",
    "KeyTaken",
    "Kind",
    "NewJob",
    "NoResult",
    "NoSuchJob",
    "Overview",
    "Progress",
    "Quantiles",
    "Refused",
    "ServerError",
    "StillProcessing",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownKind",
    "Unreachable",
    "WaitTimeout",
    "Worker",
]


def __getattr__(name: str) -> Any:
    """Load the asynchronous client when it is asked for: with it comes asyncio."""
    if name != "AsyncHasty":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hasty.client.asynchronous import AsyncHasty  # noqa: PLC0415 - see above

    return AsyncHasty
