"""The jobs in MongoDB: inserts that race, updates that are conditional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from api_server.domain import JobRecord
from api_server.store.documents import job_document, job_of, record_of
from api_server.store.turns import statements
from hasty.jobs import Ending, Job, Status, can_move
from hasty.server.mongo import Document, Mongo, StoreUnavailable
from hasty.server.runtime.crash_points import CrashPoint, crash_point

RUNNING_DISPATCHES: Final = 2
"""A job that runs was dispatched: nothing may take it for one whose first dispatch is still to be made."""

UPDATED_AT_ONCE: Final = 64
"""Endings in one statement of an update, of which a command may have many: each job looks itself up in a list."""

NOTHING_SCHEDULED: Final[Mapping[str, datetime]] = {}


class JobStore:
    """The jobs. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def insert(
        self, jobs: Sequence[Job], due: datetime, owner: str, scheduled: Mapping[str, datetime] = NOTHING_SCHEDULED
    ) -> set[str]:
        """Store new jobs, durable when this returns; the ids of those that lost their run number to another.

        `due` is when they must be published if nothing has happened; `scheduled` has another time for some of them, by
        id. `owner` says whose lease they are under.
        """
        await self._mongo.prepare()
        documents = [job_document(job, scheduled.get(job.job_id, due), owner) for job in jobs]
        crash_point(CrashPoint.API_BEFORE_INSERT)
        refused = [document["_id"] for document in await self._mongo.insert("jobs", documents)]
        crash_point(CrashPoint.API_AFTER_INSERT)
        # When an insert was sent twice because the first answer was lost, the duplicate is the job itself.
        return set(refused) - await self._existing(refused) if refused else set()

    async def get(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the jobs with these ids; unknown ones are left out."""
        return {row["_id"]: job_of(row) for row in await self._rows(job_ids)}

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return everything that is known of the jobs with these ids; unknown ones are left out."""
        return {row["_id"]: record_of(row) for row in await self._rows(job_ids)}

    async def _rows(self, job_ids: Sequence[str]) -> list[Document]:
        rows = await self._mongo.find("jobs", {"_id": {"$in": list(job_ids)}})
        unknown = set(job_ids).difference(row["_id"] for row in rows)
        if unknown and (existing := await self._existing(list(unknown))):
            # Just after an election: what was answered 201 must not be answered as unknown.
            raise StoreUnavailable(f"{len(existing)} jobs are not confirmed by a majority yet")
        return rows

    async def due(self, until: datetime, limit: int) -> list[Job]:
        """Return up to `limit` jobs that must be published by `until`, the longest due first."""
        rows = await self._mongo.find(
            "jobs", {"dispatch_due": {"$lte": until}}, sort={"dispatch_due": 1}, limit=limit, batchSize=limit + 1
        )
        return [job_of(row) for row in rows]

    async def mark_dispatched(
        self, job_ids: Sequence[str], dispatches: int, due: datetime, *, turn: int = 1, cancelling: bool = False
    ) -> None:
        """Note that the broker holds the dispatch with this number of their turn, and when it would be overdue.

        Jobs that are terminal, were dispatched more often meanwhile, or are in another turn stay as they are. So do
        those that are to be cancelled, unless it was their cancellation that was dispatched.
        """
        conditions: list[Document] = [
            {"$lt": ["$dispatches", dispatches]},
            {"$eq": [{"$ifNull": ["$turn_number", 1]}, turn]},
        ]
        if not cancelling:
            conditions.append({"$not": [{"$ifNull": ["$cancel_at", False]}]})
        await self._mongo.update("jobs", _dispatched(job_ids, dispatches, due, *conditions))

    async def postpone(self, turns: Mapping[str, int], due: datetime) -> None:
        """Have these turns, which are running, dispatched again at `due` at the soonest; `turns` are numbers by job id.

        From then on none of these dispatches counts as a turn's first. Jobs that are to be cancelled, or are in another
        turn, stay as they are.
        """
        job_ids = list(turns)
        number: Document = {"$arrayElemAt": [list(turns.values()), {"$indexOfArray": [job_ids, "$_id"]}]}
        not_cancelled = {"$not": [{"$ifNull": ["$cancel_at", False]}]}
        same_turn = {"$eq": [{"$ifNull": ["$turn_number", 1]}, number]}
        dispatches = {"$max": ["$dispatches", RUNNING_DISPATCHES]}
        await self._mongo.update("jobs", _dispatched(job_ids, dispatches, due, not_cancelled, same_turn))

    async def request_cancel(self, job_ids: Sequence[str], now: datetime) -> None:
        """Note that these jobs are to be cancelled, and make them due for that; those that have ended stay as they are.

        A second request changes nothing.
        """
        holds = {
            "$and": [
                {"$eq": ["$status", Status.PROCESSING.value]},
                {"$not": [{"$ifNull": ["$cancel_at", False]}]},
            ]
        }
        changes = {
            "cancel_at": {"$cond": [holds, now, "$cancel_at"]},
            "dispatch_due": {"$cond": [holds, now, "$dispatch_due"]},
        }
        await self._mongo.update("jobs", _each(job_ids, changes))

    async def make_due(self, job_ids: Sequence[str], now: datetime) -> int:
        """Have the first dispatch of these jobs made now; how many.

        Jobs that have ended, or were dispatched again since, stay as they are. So do those that are overdue: they are
        due anyway, and their next dispatch must get through under a new number. It will be told apart from a first one.
        """
        first, not_overdue = {"$eq": ["$dispatches", 1]}, {"$gt": ["$dispatch_due", now]}
        statement = _dispatched(job_ids, 0, now, first, not_overdue, unanswered_turn={"$ifNull": ["$turn_number", 1]})
        answer = await self._mongo.update("jobs", statement)
        return int(answer["nModified"])

    async def make_all_due(self, now: datetime, *, tasks_only: bool = False) -> int:
        """Have every job that was published and is unfinished published again; how many.

        That is needed after the loss of the broker's store. With `tasks_only`, jobs of the root kind are left out. What
        was not published yet keeps its time.
        """
        published: Document = {"$gt": ["$dispatches", 0]}
        if tasks_only:
            published = {"$and": [published, {"$ne": [{"$ifNull": ["$task", None]}, None]}]}
        # In the pipeline, as everywhere: with more than the index in the filter, SecantusDB scans.
        changes = {"dispatch_due": {"$cond": [published, now, "$dispatch_due"]}}
        statement = {"q": {"dispatch_due": {"$gt": now}}, "u": [{"$set": changes}], "multi": True}
        answer = await self._mongo.update("jobs", statement)
        return int(answer["nModified"])

    async def apply(self, status: Status, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]:
        """Move jobs to a status, only from where they may move to it: how many moved, and the ids that do not exist."""
        # Of several endings of one job, the first counts.
        sleeps = {ending.job_id: ending.sleep_time_used for ending in reversed(endings)}
        ids = list(sleeps)
        answer = await self._mongo.update(
            "jobs",
            *(
                _move(ids[start : start + UPDATED_AT_ONCE], status, sleeps, now)
                for start in range(0, len(ids), UPDATED_AT_ONCE)
            ),
        )
        return int(answer["nModified"]), await self._unknown(ids, answer)

    async def apply_reports(self, endings: Sequence[Ending], now: datetime) -> tuple[int, set[str]]:
        """Apply endings with a report: how many changed their jobs, and the ids of jobs that do not exist.

        A final one moves its job to its status; one that says again begins the next turn, which is due after its delay.
        """
        # Of several endings of one turn, the first counts.
        by_turn = {ending.turn.turn_id: ending for ending in reversed(endings)}
        answer = await self._mongo.update("jobs", *statements(list(by_turn.values()), now))
        return int(answer["nModified"]), await self._unknown([ending.job_id for ending in by_turn.values()], answer)

    async def _unknown(self, ids: Sequence[str], answer: Document) -> set[str]:
        return set(ids) - await self._existing(ids) if answer["n"] < len(ids) else set()

    async def _existing(self, job_ids: Sequence[str]) -> set[str]:
        # A new primary may not know at once that a majority has them, and none may be missed here.
        rows = await self._mongo.find("jobs", {"_id": {"$in": list(job_ids)}}, {"_id": 1}, uncommitted=True)
        return {row["_id"] for row in rows}


def _each(job_ids: Sequence[str], changes: Mapping[str, object]) -> Document:
    """Write the statement that changes each of these jobs.

    Conditions stand in the pipeline, not in the filter: `_id` alone is what every server finds by its index.
    """
    return {"q": {"_id": {"$in": list(job_ids)}}, "u": [{"$set": changes}], "multi": True}


def _dispatched(
    job_ids: Sequence[str], dispatches: int | Document, due: datetime, *conditions: object, **others: object
) -> Document:
    """Write the statement that changes these jobs' dispatches, of those that are processing and meet the conditions.

    `others` are changes of other fields.
    """
    holds = {"$and": [{"$eq": ["$status", Status.PROCESSING.value]}, *conditions]}
    changes = {"dispatches": dispatches, "dispatch_due": due, **others}
    return _each(job_ids, {name: {"$cond": [holds, value, f"${name}"]} for name, value in changes.items()})


def _move(job_ids: Sequence[str], status: Status, sleeps: Mapping[str, float], now: datetime) -> Document:
    """Write the statement that moves these jobs to a status, those among them that may move there."""
    moves: Document = {"$in": ["$status", [current.value for current in Status if can_move(current, status)]]}
    sleep: Document = {"$arrayElemAt": [[sleeps[job_id] for job_id in job_ids], {"$indexOfArray": [job_ids, "$_id"]}]}
    return _each(
        job_ids,
        {
            "status": {"$cond": [moves, status.value, "$status"]},
            "sleep_time_used": {"$cond": [moves, sleep, "$sleep_time_used"]},
            "ended_at": {"$cond": [moves, now, "$ended_at"]},
            "dispatch_due": {"$cond": [moves, "$$REMOVE", "$dispatch_due"]},
        },
    )
