"""The api-server's database: its collections and their indexes.

Collection `jobs`, which is the outbox as well:

    {_id: job_id, object_id, run, status, created_at, sleep_time_used, dispatches, dispatch_due, owner, ended_at}

The fields of `hasty.jobs.Job`, and three more: `dispatch_due` says when the job must be published if nothing has
happened; a terminal job has none. `owner` is the api-server that stored it. `ended_at` exists in terminal jobs only.
`forget_at` and `forgotten` are marks of `retention`.

Collection `leases`, one for each api-server (see `domain.Lease`):

    {_id: owner, renewed_at, watermark}

Collection `clocks`, one for each member of a replica set whose clock is not followed as it is (see `clock`):

    {_id: member, ahead_s, at}

Collection `kinds`, one for each version of a kind that a job-server has announced (see `kinds`); `kind` has the fields
of `hasty.jobs.Kind`:

    {_id: "<name>:<version>", kind: {...}, first_at, seen_at}

Collection `requests`, one for each request with an idempotency key, as long as its job is kept (see `retention`):

    {_id: key, body_hash, job_id, at}

Collection `batches`, one for each batch of jobs (see `batches`):

    {_id: batch_id, job_ids, jobs: their number, at, outcome: {status: jobs} once all have ended and were counted}

Collection `forgotten`, one for each step of forgetting, until a job-server has deleted the endings (see `retention`):

    {_id: note_id, turns: [[job_id, number of turns], ...]}

Collection `streams`, one for each stream of the broker (see `topology`):

    {_id: name, identity}

Collection `dead_letters`, see `hasty.server.mongo`.
"""

from typing import Final

from hasty.server.mongo import Indexes

DATABASE: Final = "hasty_api"
CALL_TIMEOUT_S: Final = 2.5
"""The longest a call may take; a caller is asked to retry later within 3 seconds."""

INDEXES: Final[Indexes] = {
    "jobs": [
        # Lists of jobs: it never changes, so no ending has to write it.
        {"key": {"created_at": 1}, "name": "created_at"},
        # The outbox's queue: holds unfinished jobs only.
        {"key": {"dispatch_due": 1}, "name": "dispatch_due", "sparse": True},
        # What decides the cooldown: of two api-servers that decided on the same latest run, one insert wins. It comes
        # last: SecantusDB keeps all indexes in one table in this order, and a look-up past the end of this one would
        # have to read what was removed from the queue.
        {"key": {"object_id": 1, "run": -1}, "name": "object_run", "unique": True},
    ],
    "batches": [{"key": {"at": 1}, "name": "at"}],
    "leases": [{"key": {"renewed_at": 1}, "name": "renewed_at"}],
    "requests": [{"key": {"at": 1}, "name": "at"}],
}
