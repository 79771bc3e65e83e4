"""Jobs and endings as the store's tests need them."""

import uuid
from datetime import UTC, datetime, timedelta

from api_server.domain import Run
from hasty.jobs import DeadLetter, Ending, Job, Status, Turn
from tests.store.conftest import FakeStore, RealStore

Store = RealStore | FakeStore

# Databases keep whole milliseconds.
OWNER = "an api-server"
NOON = datetime(2026, 1, 2, 12, 0, 0, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def new_job(object_id: str = "an object", number: int = 1, created_at: datetime = NOON) -> Job:
    """A job as the service makes it."""
    return Job(str(uuid.uuid4()), object_id, number, created_at)


def run_of(job: Job) -> Run:
    """What the cooldown is decided by."""
    return Run(job.object_id, job.run, job.job_id, job.created_at, job.status is Status.PROCESSING)


def end(job: Job, sleep_time_used: float = 20) -> Ending:
    """The end of a job."""
    return ending_of(job.job_id, sleep_time_used)


def ending_of(job_id: str, sleep_time_used: float = 1) -> Ending:
    """The end of a job that need not exist."""
    return Ending(Turn(job_id, "an object", 1), Status.FINISHED, sleep_time_used)


def letter(key: str, data: bytes = b"\xff\x00garbage", reason: str = "no JSON") -> DeadLetter:
    """Make a dead letter."""
    return DeadLetter(key, "job:finished", data, reason)
