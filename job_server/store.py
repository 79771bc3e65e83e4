"""The job-server's database: the one recorded outcome of each job. The only use of motor in this service.

Collection `outcomes`; the first insert under a job's id wins for ever:

    {_id: job_id, object_id, timestamp, status, sleep_time_used, attempt, worker, recorded_at}
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import AutoReconnect, ConfigurationError, PyMongoError, ServerSelectionTimeoutError

from job_server.domain import Ending, Job, Outcome
from job_server.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from job_server.service import SetAside

DATABASE: Final = "hasty_job"
CALL_TIMEOUT_S: Final = 5.0
SET_ASIDE_FOR_S: Final = 30 * 24 * 3600
_DUPLICATE_KEY: Final = 11000


class OutcomeStore:
    """The outcomes in MongoDB. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, client: AsyncIOMotorClient[dict[str, Any]], worker: str) -> None:
        self._database = client.get_default_database(DATABASE)
        # `command` does not take the client's by itself.
        self._codec = self._database.codec_options
        # At least the journal of one; a URL may ask for more, such as `w=majority`.
        self._durable = {"w": 1, **client.write_concern.document, "j": True}
        self._worker = worker
        self._prepared = False

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str, *, worker: str) -> AsyncIterator[OutcomeStore]:
        """Open the database at `url`; it need not be reachable yet. `worker` signs what is recorded.

        Raises:
            ValueError: when the URL is none of MongoDB's; the text does not repeat it.
        """
        try:
            client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
                url,
                appname="hasty-job-server",
                tz_aware=True,
                # A repeated insert is recognised by its own id instead; standalone servers know no retryable writes.
                retryWrites=False,
                serverSelectionTimeoutMS=2000,
                connectTimeoutMS=2000,
                socketTimeoutMS=int(CALL_TIMEOUT_S * 1000),
                heartbeatFrequencyMS=2000,
                maxPoolSize=16,
            )
        except (ConfigurationError, PyMongoError) as error:
            raise ValueError(f"not a MongoDB URL: {error}") from None
        try:
            yield cls(client, worker)
        finally:
            client.close()

    async def ping(self) -> None:
        """Prove that the database answers."""
        await self._command({"ping": 1})

    async def recorded(self, job_ids: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes that stand for these jobs; jobs without one are left out."""
        answer = await self._command(
            {
                "find": "outcomes",
                "filter": {"_id": {"$in": list(job_ids)}},
                "batchSize": len(job_ids) + 1,
                "singleBatch": True,
            }
        )
        return {row["_id"]: _outcome(row) for row in answer["cursor"]["firstBatch"]}

    async def record(self, outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
        """Record outcomes, on disk when this returns; those that stood already, to be adopted, by job id.

        An outcome of this very call that was sent twice because its first answer was lost may be among them.
        """
        now = datetime.now(UTC)
        documents = [
            {
                "_id": outcome.job.job_id,
                "object_id": outcome.job.object_id,
                "timestamp": outcome.job.timestamp,
                "status": outcome.ending.value,
                "sleep_time_used": outcome.sleep_time_used,
                "attempt": outcome.attempt,
                "worker": self._worker,
                "recorded_at": now,
            }
            for outcome in outcomes
        ]
        answer = await self._write({"insert": "outcomes", "documents": documents, "ordered": False})
        errors = answer.get("writeErrors", ())
        for error in errors:
            if error["code"] != _DUPLICATE_KEY:
                raise StoreUnavailable(f"insert refused: {error.get('errmsg')}")
        if not errors:
            return {}
        return await self.recorded([outcomes[error["index"]].job.job_id for error in errors])

    async def set_aside(self, messages: Sequence[SetAside]) -> None:
        """Keep messages that cannot be understood where they can be read, for 30 days."""
        if not self._prepared:
            index = {"key": {"at": 1}, "name": "forget", "expireAfterSeconds": SET_ASIDE_FOR_S}
            await self._command({"createIndexes": "set_aside", "indexes": [index]})
            self._prepared = True
        now = datetime.now(UTC)
        documents = [
            {
                "_id": message.key,
                "subject": message.subject,
                "data": message.data,
                "reason": message.reason,
                "at": now,
            }
            for message in messages
        ]
        # A message that is here already was set aside before its last acknowledgement was lost.
        await self._write({"insert": "set_aside", "documents": documents, "ordered": False})

    async def _write(self, command: dict[str, object]) -> dict[str, Any]:
        command["writeConcern"] = self._durable
        answer = await self._command(command)
        if problem := answer.get("writeConcernError"):
            raise StoreUnavailable(f"not on disk: {problem.get('errmsg')}")
        return answer

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                try:
                    return dict(await self._database.command(command, codec_options=self._codec))
                except ServerSelectionTimeoutError:
                    raise
                except AutoReconnect:
                    # Every command here may be repeated: a second insert finds the first.
                    return dict(await self._database.command(command, codec_options=self._codec))
        except (PyMongoError, TimeoutError) as error:
            raise StoreUnavailable(str(error) or f"no answer within {CALL_TIMEOUT_S:g} s") from error


def _outcome(row: dict[str, Any]) -> Outcome:
    return Outcome(
        job=Job(row["_id"], row["object_id"], row["timestamp"]),
        ending=Ending(row["status"]),
        sleep_time_used=row["sleep_time_used"],
        attempt=row["attempt"],
    )
