"""Repetition: a job that has ended is posted once more, as a new job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable

from api_server.domain import JobRecord
from api_server.errors import NoSuchJob, StillProcessing
from api_server.submission import Request, Submission, Submitted
from hasty.jobs import TERMINAL


class Repetition:
    """Repeats jobs. `find` reads one; `root_kind` names the kind of the jobs without a task."""

    def __init__(
        self, submission: Submission, find: Callable[[str, str], Awaitable[JobRecord | None]], *, root_kind: str
    ) -> None:
        self._submission = submission
        self._find = find
        self._root_kind = root_kind

    async def repeat(self, job_id: str, idempotency_key: str | None, caller: str = "") -> Submitted:
        """Make a new job with the input, attempts and labels of one that has ended; its `retry_of` says which.

        Raises:
            NoSuchJob: when there is none with this id.
            StillProcessing: when it has not ended.
            Exception: everything that `Submission.submit` raises: the input is checked anew, and a key may be taken.
        """
        record = await self._find(job_id, caller)
        if record is None:
            raise NoSuchJob(job_id)
        if record.job.status not in TERMINAL:
            raise StillProcessing(job_id)
        return await self._submission.submit(self.request(record, idempotency_key), caller)

    def request(self, record: JobRecord, idempotency_key: str | None = None, batch: str | None = None) -> Request:
        """Return the request that makes such a job again."""
        job, task = record.job, record.job.task
        text = json.dumps({"object_id": job.object_id}) if task is None else task.input
        return Request(
            self._root_kind if task is None else task.kind,
            text,
            json.loads(text),
            attempts=task.attempts if task else None,
            labels=task.labels if task else (),
            idempotency=None if idempotency_key is None else (idempotency_key, _hash(job.job_id)),
            retry_of=job.job_id,
            batch=batch,
        )


def _hash(job_id: str) -> str:
    return hashlib.sha256(f"retry of {job_id}".encode()).hexdigest()
