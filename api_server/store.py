"""The api-server's database: documents, indexes, conditional writes. The only use of motor in this service.

Collection `jobs`, which is the outbox as well:

    {_id: job_id, object_id, run, status, created_at, sleep_time_used, dispatches, dispatch_due, owner, ended_at}

`dispatch_due` says when the job must be published if nothing has happened; a terminal job has none. `owner` is the
api-server that stored it. `ended_at` exists in terminal jobs only.

Collection `leases`, one for each api-server (see `domain.Lease`):

    {_id: owner, renewed_at, watermark}

Commands are sent as they stand in MongoDB's manual rather than through the collection's methods: a batch of inserts
or updates is one command and one journal sync, and refused members come back as data instead of exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import AutoReconnect, ConfigurationError, PyMongoError, ServerSelectionTimeoutError

from api_server import domain
from api_server.domain import Job, Lease, Run, Status
from api_server.errors import StoreUnavailable
from runtime.crash_points import crash_point

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from api_server.domain import Outcome
    from api_server.service import SetAside

DATABASE: Final = "hasty_api"
CALL_TIMEOUT_S: Final = 2.5
"""The longest a call may take; a caller is told to try later within 3 seconds."""

UPDATED_AT_ONCE: Final = 64
"""Outcomes in one statement of an update, of which a command may have many: each job looks itself up in a list."""

LONG_FROM: Final = 16
"""From so many runs on, an object's latest known run is remembered; for so many objects at most:"""

LONG_REMEMBERED: Final = 10_000

LEASES_AT_ONCE: Final = 100
TAKEN_OVER_AT_ONCE: Final = 1000

SET_ASIDE_FOR_S: Final = 30 * 24 * 3600
_DUPLICATE_KEY: Final = 11000

INDEXES: Final[list[dict[str, object]]] = [
    # The outbox's queue: holds unfinished jobs only.
    {"key": {"dispatch_due": 1}, "name": "dispatch_due", "sparse": True},
    # The cooldown's judge: of two api-servers that decided on the same latest run, one insert wins. It comes last:
    # SecantusDB keeps all indexes in one table in this order, and a look-up past the end of this one would have to
    # wade through what was removed from the queue.
    {"key": {"object_id": 1, "run": -1}, "name": "object_run", "unique": True},
]


class JobStore:
    """The jobs in MongoDB. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, client: AsyncIOMotorClient[dict[str, Any]]) -> None:
        self._database = client.get_default_database(DATABASE)
        # `command` does not take the client's by itself.
        self._codec = self._database.codec_options
        # At least the journal of one; a URL may ask for more, such as `w=majority`.
        self._durable = {"w": 1, **client.write_concern.document, "j": True}
        # Objects with many runs, and a run of each that exists: SecantusDB looks at every run from there on.
        self._long: dict[str, int] = {}
        self._prepared = False

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[JobStore]:
        """Open the database at `url`; it need not be reachable yet.

        Raises:
            ValueError: when the URL is none of MongoDB's; the text does not repeat it.
        """
        try:
            client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
                url,
                appname="hasty-api-server",
                tz_aware=True,
                # A repeated insert is recognised by its own id instead; standalone servers know no retryable writes.
                retryWrites=False,
                serverSelectionTimeoutMS=1500,
                connectTimeoutMS=1500,
                socketTimeoutMS=int(CALL_TIMEOUT_S * 1000),
                heartbeatFrequencyMS=2000,
                maxPoolSize=16,
            )
        except (ConfigurationError, PyMongoError) as error:
            raise ValueError(f"not a MongoDB URL: {error}") from None
        try:
            yield cls(client)
        finally:
            client.close()

    async def ping(self) -> None:
        """Prove that the database answers."""
        await self._command({"ping": 1})

    async def server_time(self) -> datetime:
        """Return the database's own time."""
        at: datetime = (await self._command({"hello": 1}))["localTime"]
        return at

    async def latest_runs(self, object_ids: Sequence[str]) -> dict[str, Run]:
        """Return the latest run of each of these objects; objects without one are left out."""
        await self._prepare()
        long = [object_id for object_id in object_ids if object_id in self._long]
        short = [object_id for object_id in object_ids if object_id not in self._long]
        found = await self._latest_of(short) if short else []
        since = await asyncio.gather(*(self._latest_since(object_id, self._long[object_id]) for object_id in long))
        runs = {run.object_id: run for some in (found, *since) for run in some}
        for run in runs.values():
            if run.number >= LONG_FROM:
                self._remember(run)
        return runs

    async def _latest_of(self, object_ids: Sequence[str]) -> list[Run]:
        answer = await self._command(
            {
                "aggregate": "jobs",
                "pipeline": [
                    {"$match": {"object_id": {"$in": list(object_ids)}}},
                    # Sorted as the index is, so that MongoDB makes one step in it for each group.
                    {"$sort": {"object_id": 1, "run": -1}},
                    {
                        "$group": {
                            "_id": "$object_id",
                            "run": {"$first": "$run"},
                            "job_id": {"$first": "$_id"},
                            "created_at": {"$first": "$created_at"},
                        }
                    },
                ],
                "cursor": {"batchSize": len(object_ids) + 1},
            }
        )
        return [Run(row["_id"], row["run"], row["job_id"], row["created_at"]) for row in answer["cursor"]["firstBatch"]]

    async def _latest_since(self, object_id: str, number: int) -> list[Run]:
        """Look at an object's runs from one on that is known to exist: run numbers never go back."""
        rows = await self._find({"object_id": object_id, "run": {"$gte": number}}, sort={"run": -1}, limit=1)
        if not rows:
            # Somebody has deleted what was known.
            self._long.pop(object_id, None)
            return await self._latest_of([object_id])
        return [_job(row).run for row in rows]

    def _remember(self, run: Run) -> None:
        self._long.pop(run.object_id, None)
        self._long[run.object_id] = run.number
        if len(self._long) > LONG_REMEMBERED:
            del self._long[next(iter(self._long))]

    async def insert(self, jobs: Sequence[Job], due: datetime, owner: str) -> set[str]:
        """Store new jobs, on disk when this returns; the ids of those that lost their run number to another.

        `due` is when they must be published if nothing has happened; `owner` says whose lease they are under.
        """
        await self._prepare()
        documents = [
            {
                "_id": job.run.job_id,
                "object_id": job.run.object_id,
                "run": job.run.number,
                "status": job.status.value,
                "created_at": job.run.created_at,
                "sleep_time_used": 0,
                "dispatches": job.dispatches,
                "dispatch_due": due,
                "owner": owner,
            }
            for job in jobs
        ]
        crash_point("api.before_insert")
        answer = await self._write({"insert": "jobs", "documents": documents, "ordered": False})
        crash_point("api.after_insert")
        refused = [documents[error["index"]]["_id"] for error in answer.get("writeErrors", ())]
        if not refused:
            return set()
        for error in answer["writeErrors"]:
            if error["code"] != _DUPLICATE_KEY:
                raise StoreUnavailable(f"insert refused: {error.get('errmsg')}")
        # When an insert was sent twice because the first answer was lost, the duplicate is the job itself.
        return set(refused) - {row["_id"] for row in await self._find({"_id": {"$in": refused}}, {"_id": 1})}

    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the jobs with these ids; unknown ones are left out."""
        return {row["_id"]: _job(row) for row in await self._find({"_id": {"$in": list(job_ids)}})}

    async def due(self, until: datetime, limit: int) -> list[Job]:
        """Return up to `limit` jobs that must be published by `until`, the longest due first."""
        rows = await self._find(
            {"dispatch_due": {"$lte": until}}, sort={"dispatch_due": 1}, limit=limit, batchSize=limit + 1
        )
        return [_job(row) for row in rows]

    async def mark_dispatched(self, job_ids: Sequence[str], dispatches: int, due: datetime) -> None:
        """Note that the broker holds the dispatch with this number, and when it would be overdue.

        Jobs that are terminal, or were dispatched more often meanwhile, stay as they are.
        """
        await self._update(_dispatched(job_ids, dispatches, due, {"$lt": ["$dispatches", dispatches]}))

    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int:
        """Have the first dispatch of these jobs made now; how many.

        Jobs that have ended, or were dispatched again since, stay as they are. So do those that are overdue: they are
        due anyway, and their next dispatch must get through under a new number.
        """
        first, not_overdue = {"$eq": ["$dispatches", 1]}, {"$gt": ["$dispatch_due", now]}
        answer = await self._update(_dispatched(job_ids, 0, now, first, not_overdue))
        return int(answer["nModified"])

    async def make_all_due(self, now: datetime) -> int:
        """Have every unfinished job published again, as after the loss of the broker's store; how many."""
        answer = await self._update(
            {"q": {"dispatch_due": {"$gt": now}}, "u": {"$set": {"dispatch_due": now}}, "multi": True}
        )
        return int(answer["n"])

    async def renew(self, lease: Lease) -> None:
        """Write an api-server's lease down."""
        await self._prepare()
        await self._update(
            {
                "q": {"_id": lease.owner},
                "u": {"$set": {"renewed_at": lease.renewed_at, "watermark": lease.watermark}},
                "upsert": True,
            },
            collection="leases",
        )

    async def abandoned(self, since: datetime) -> list[Lease]:
        """Return the leases that were renewed before `since` only, up to a hundred, the oldest first."""
        rows = await self._find(
            {"renewed_at": {"$lt": since}}, collection="leases", sort={"renewed_at": 1}, limit=LEASES_AT_ONCE
        )
        return [Lease(row["_id"], row["renewed_at"], row["watermark"]) for row in rows]

    async def take_over(self, lease: Lease, now: datetime, until: datetime) -> int:
        """Have the jobs that a lease stands for dispatched, of those that would be overdue before `until`; how many."""
        taken = 0
        since = lease.watermark
        while True:
            rows = await self._find(
                # Bounded: what is dispatched meanwhile comes in again behind.
                {"dispatch_due": {"$gte": since, "$lt": until}},
                {"owner": 1, "dispatch_due": 1},
                sort={"dispatch_due": 1},
                limit=TAKEN_OVER_AT_ONCE,
            )
            job_ids = [row["_id"] for row in rows if row.get("owner") == lease.owner]
            moved = await self.make_due(job_ids, now) if job_ids else 0
            taken += moved
            if len(rows) < TAKEN_OVER_AT_ONCE:
                return taken
            last: datetime = rows[-1]["dispatch_due"]
            # More may be due at the very moment of the last one.
            since = last if moved or last > since else since + timedelta(milliseconds=1)

    async def forget(self, lease: Lease) -> None:
        """Delete a lease, unless it was renewed since."""
        await self._write(
            {"delete": "leases", "deletes": [{"q": {"_id": lease.owner, "renewed_at": lease.renewed_at}, "limit": 1}]}
        )

    async def apply(self, status: Status, outcomes: Sequence[Outcome], now: datetime) -> tuple[int, set[str]]:
        """Bring jobs to a status, only from where they may go to it: how many moved, and the ids that do not exist."""
        sleeps = {outcome.job_id: outcome.sleep_time_used for outcome in reversed(outcomes)}
        ids = list(sleeps)
        answer = await self._update(
            *(
                _move(ids[start : start + UPDATED_AT_ONCE], status, sleeps, now)
                for start in range(0, len(ids), UPDATED_AT_ONCE)
            )
        )
        unknown: set[str] = set()
        if answer["n"] < len(ids):
            unknown = set(ids) - {row["_id"] for row in await self._find({"_id": {"$in": ids}}, {"_id": 1})}
        return int(answer["nModified"]), unknown

    async def set_aside(self, messages: Sequence[SetAside]) -> None:
        """Keep messages that cannot be understood where they can be read, for 30 days."""
        await self._prepare()
        documents = [
            {
                "_id": message.key,
                "subject": message.subject,
                "data": message.data,
                "reason": message.reason,
                "at": message.at,
            }
            for message in messages
        ]
        # A message that is here already was set aside before its last acknowledgement was lost.
        await self._write({"insert": "set_aside", "documents": documents, "ordered": False})

    # -- how commands are sent ------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Have the indexes before the first use, and again after any failure: the database may be a new one.

        Several at once do it several times: nobody waits for another's failure.
        """
        if self._prepared:
            return
        await self._command({"createIndexes": "jobs", "indexes": INDEXES})
        await self._command({"createIndexes": "leases", "indexes": [{"key": {"renewed_at": 1}, "name": "renewed_at"}]})
        await self._command(
            {
                "createIndexes": "set_aside",
                "indexes": [{"key": {"at": 1}, "name": "forget", "expireAfterSeconds": SET_ASIDE_FOR_S}],
            }
        )
        self._prepared = True

    async def _find(
        self,
        criteria: Mapping[str, object],
        projection: Mapping[str, int] | None = None,
        *,
        collection: str = "jobs",
        **options: object,
    ) -> list[dict[str, Any]]:
        command: dict[str, object] = {"find": collection, "filter": criteria, **options}
        if projection is not None:
            command["projection"] = projection
        # Every query here is bounded by its caller: by a list of ids or by a limit.
        command.setdefault("batchSize", 100_000)
        command["singleBatch"] = True
        answer = await self._command(command)
        rows: list[dict[str, Any]] = answer["cursor"]["firstBatch"]
        return rows

    async def _update(self, *statements: dict[str, Any], collection: str = "jobs") -> dict[str, Any]:
        answer = await self._write({"update": collection, "updates": statements})
        for error in answer.get("writeErrors", ()):
            raise StoreUnavailable(f"update refused: {error.get('errmsg')}")
        return answer

    async def _write(self, command: dict[str, object]) -> dict[str, Any]:
        command["writeConcern"] = self._durable
        answer = await self._command(command)
        if problem := answer.get("writeConcernError"):
            raise StoreUnavailable(f"not on disk: {problem.get('errmsg')}")
        return answer

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                # A bare command does not take the client's options, and its dates would come without their zone.
                options = self._database.codec_options
                try:
                    return dict(await self._database.command(command, codec_options=options))
                except ServerSelectionTimeoutError:
                    raise
                except AutoReconnect:
                    # Every command here may be repeated: ids are made by the caller, and updates are conditional.
                    return dict(await self._database.command(command, codec_options=options))
        except (PyMongoError, TimeoutError) as error:
            self._prepared = False
            raise StoreUnavailable(str(error) or f"no answer within {CALL_TIMEOUT_S:g} s") from error


def _each(job_ids: Sequence[str], changes: Mapping[str, object]) -> dict[str, Any]:
    """Write the statement that changes each of these jobs.

    Conditions stand in the pipeline, not in the filter: `_id` alone is what every server finds by its index.
    """
    return {"q": {"_id": {"$in": list(job_ids)}}, "u": [{"$set": changes}], "multi": True}


def _dispatched(job_ids: Sequence[str], dispatches: int, due: datetime, *conditions: object) -> dict[str, Any]:
    """Write the statement that changes these jobs' dispatches, of those that are under way and meet the conditions."""
    stands = {"$and": [{"$eq": ["$status", Status.PROCESSING.value]}, *conditions]}
    return _each(
        job_ids,
        {
            "dispatches": {"$cond": [stands, dispatches, "$dispatches"]},
            "dispatch_due": {"$cond": [stands, due, "$dispatch_due"]},
        },
    )


def _move(job_ids: Sequence[str], status: Status, sleeps: Mapping[str, float], now: datetime) -> dict[str, Any]:
    """Write the statement that brings these jobs to a status, those among them that may go there."""
    moves: dict[str, object] = {
        "$in": ["$status", [current.value for current in Status if domain.moves(current, status)]]
    }
    sleep: dict[str, object] = {
        "$arrayElemAt": [[sleeps[job_id] for job_id in job_ids], {"$indexOfArray": [job_ids, "$_id"]}]
    }
    return _each(
        job_ids,
        {
            "status": {"$cond": [moves, status.value, "$status"]},
            "sleep_time_used": {"$cond": [moves, sleep, "$sleep_time_used"]},
            "ended_at": {"$cond": [moves, now, "$ended_at"]},
            "dispatch_due": {"$cond": [moves, "$$REMOVE", "$dispatch_due"]},
        },
    )


def _job(row: dict[str, Any]) -> Job:
    return Job(
        run=Run(row["object_id"], row["run"], row["_id"], row["created_at"]),
        status=Status(row["status"]),
        sleep_time_used=row["sleep_time_used"],
        dispatches=row["dispatches"],
    )
