"""The job-server's database: the one recorded ending of each turn.

Collection `outcomes`; the first insert under a turn's id is its ending, and stays; a final one is the job's outcome:

    {_id: turn_id, object_id, timestamp, status, sleep_time_used, attempt, worker, recorded_at}

`status` is `processing` where the ending says again. The ending of a handler's turn has more fields: `number` (of the
turn), `kind`, `task_attempt`, `report`.

Collection `runs`: how often turns were started that may have been started before:

    {_id: turn_id, runs, at}

Collection `dead_letters`, see `hasty.server.mongo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from hasty.jobs import DeadLetter, Ending, Status, Task, Turn
from hasty.server.mongo import Document, Mongo
from hasty.server.reports import report_document, report_of

DATABASE: Final = "hasty_job"
CALL_TIMEOUT_S: Final = 5.0
FORGET_AT_ONCE: Final = 500


class EndingStore:
    """The endings. Every method raises `StoreUnavailable` when the database fails it in any way.

    `worker` is stored with what is recorded.
    """

    def __init__(self, mongo: Mongo, worker: str) -> None:
        self._mongo = mongo
        self._worker = worker

    async def recorded(self, turn_ids: Sequence[str]) -> dict[str, Ending]:
        """Return the endings that are recorded for these turns; turns without one are left out."""
        rows = await self._mongo.find("outcomes", {"_id": {"$in": list(turn_ids)}})
        return {row["_id"]: _ending(row) for row in rows}

    async def record(self, endings: Sequence[Ending]) -> dict[str, Ending]:
        """Record endings, durable when this returns; by turn id, those that were recorded already and are to be used.

        An ending of this very call that was sent twice because its first answer was lost may be among them.
        """
        now = datetime.now(UTC)
        documents = [_document(ending) | {"worker": self._worker, "recorded_at": now} for ending in endings]
        refused = await self._mongo.insert("outcomes", documents)
        return await self.recorded([document["_id"] for document in refused]) if refused else {}

    async def count_runs(self, turn_ids: Sequence[str]) -> dict[str, int]:
        """Count one more run of each of these turns, durable when this returns; how many there were before.

        Of two that count the same turn at once, both may be told the same number.
        """
        rows = await self._mongo.find("runs", {"_id": {"$in": list(turn_ids)}}, uncommitted=True)
        before = dict.fromkeys(turn_ids, 0) | {row["_id"]: row["runs"] for row in rows}
        now = datetime.now(UTC)
        new = [{"_id": turn_id, "runs": 1, "at": now} for turn_id, count in before.items() if count == 0]
        refused = {row["_id"] for row in await self._mongo.insert("runs", new)} if new else set()
        again = [turn_id for turn_id, count in before.items() if count > 0 or turn_id in refused]
        if again:
            change = {"$inc": {"runs": 1}, "$set": {"at": now}}
            await self._mongo.update("runs", {"q": {"_id": {"$in": again}}, "u": change, "multi": True})
        return before | dict.fromkeys(refused, 1)

    async def forget(self, turn_ids: Sequence[str]) -> None:
        """Delete the endings of these turns and how often they were started, durable when this returns."""
        for start in range(0, len(turn_ids), FORGET_AT_ONCE):
            some = {"_id": {"$in": list(turn_ids[start : start + FORGET_AT_ONCE])}}
            for collection in ("outcomes", "runs"):
                # SecantusDB fails to delete from a collection that does not exist, as one of the two may not.
                rows = await self._mongo.find(collection, some, {"_id": 1}, uncommitted=True)
                if rows:
                    await self._mongo.delete_all(collection, [row["_id"] for row in rows])

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Store messages that cannot be processed."""
        await self._mongo.dead_letter(letters, datetime.now(UTC))


def _document(ending: Ending) -> Document:
    turn = ending.turn
    document: Document = {
        "_id": turn.turn_id,
        "object_id": turn.object_id,
        "timestamp": turn.timestamp,
        "status": ending.status.value,
        "sleep_time_used": ending.sleep_time_used,
        "attempt": ending.attempt,
    }
    if turn.number > 1:
        document["number"] = turn.number
    if turn.task is not None:
        # The input is the api-server's to keep.
        document |= {"kind": turn.task.kind, "task_attempt": turn.task.attempt}
    if ending.report is not None:
        document["report"] = report_document(ending.report)
    return document


def _ending(row: Document) -> Ending:
    task = Task(row["kind"], "", row["task_attempt"]) if "kind" in row else None
    job_id = row["_id"].partition(":")[0]
    turn = Turn(job_id, row["object_id"], row["timestamp"], row.get("number", 1), task)
    report = report_of(row["report"]) if "report" in row else None
    return Ending(turn, Status(row["status"]), row["sleep_time_used"], row["attempt"], report)
