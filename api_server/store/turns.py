"""The statements that apply the endings of handlers' turns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final

from api_server.store.documents import past_document, task_document
from hasty.jobs import ATTEMPTS_KEPT, Ending, Report, Status, Task, can_move
from hasty.server.mongo import Document
from hasty.server.reports import report_document

UPDATED_AT_ONCE: Final = 64
UPDATED_AT_ONCE_BYTES: Final = 64 * 1024
"""Endings in one statement, and their outputs together."""


def statements(endings: Sequence[Ending], now: datetime) -> Iterator[Document]:
    """Write the statements that apply endings with a report, each only to a job whose present turn it is."""
    final = [ending for ending in endings if ending.is_final]
    again = [ending for ending in endings if not ending.is_final]
    for chunk in _chunks(final):
        yield _final(chunk, now)
    for chunk in _chunks(again):
        yield _again(chunk, now)


def _final(endings: Sequence[tuple[Ending, Report]], now: datetime) -> Document:
    ids = [ending.job_id for ending, _ in endings]
    changes = [
        {
            "status": ending.status.value,
            "sleep_time_used": ending.sleep_time_used,
            "ended_at": now,
            "report": report_document(report),
        }
        for ending, report in endings
    ]
    holds = _holds(ids, [ending for ending, _ in endings])
    ended: Document = {"$ne": ["$status", Status.PROCESSING.value]}
    return {
        "q": {"_id": {"$in": ids}},
        "u": [
            {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$cond": [holds, _own(ids, changes), {}]}]}},
            {"$set": {"dispatch_due": {"$cond": [ended, "$$REMOVE", "$dispatch_due"]}}},
        ],
        "multi": True,
    }


def _again(endings: Sequence[tuple[Ending, Report]], now: datetime) -> Document:
    ids = [ending.job_id for ending, _ in endings]
    holds = _holds(ids, [ending for ending, _ in endings])
    past = [past_document(ending, report) for ending, report in endings]
    tasks = [task_document(_next_task(ending, report)) for ending, report in endings]
    attempts = [{"attempt": task["attempt"]} for task in tasks]
    dues = [now + timedelta(seconds=report.delay_s) for _, report in endings]
    numbers = [ending.turn.number + 1 for ending, _ in endings]
    kept: Document = {"$slice": [{"$concatArrays": [{"$ifNull": ["$history", []]}, [_own(ids, past)]]}, -ATTEMPTS_KEPT]}
    return {
        "q": {"_id": {"$in": ids}},
        "u": [
            {
                "$set": {
                    "turn_number": {"$cond": [holds, _own(ids, numbers), "$turn_number"]},
                    "dispatches": {"$cond": [holds, 0, "$dispatches"]},
                    "dispatch_due": {
                        # A job that is to be cancelled does not wait for its next turn.
                        "$cond": [
                            holds,
                            {"$cond": [{"$ifNull": ["$cancel_at", False]}, now, _own(ids, dues)]},
                            "$dispatch_due",
                        ]
                    },
                    "history": {"$cond": [holds, kept, "$history"]},
                    "task": {
                        "$cond": [
                            holds,
                            # A job of the root kind has no task before its second turn.
                            {"$mergeObjects": [{"$ifNull": ["$task", _own(ids, tasks)]}, _own(ids, attempts)]},
                            "$task",
                        ]
                    },
                }
            }
        ],
        "multi": True,
    }


def _next_task(ending: Ending, report: Report) -> Task:
    """Return the next turn's task as a job of the root kind gets it; of others, only the attempt is used."""
    task = ending.turn.task or Task("", "")
    object_id = json.dumps({"object_id": ending.turn.object_id}, ensure_ascii=False)
    return replace(task, input=object_id, attempt=task.attempt + 1 if report.counts else task.attempt)


def _holds(ids: Sequence[str], endings: Sequence[Ending]) -> Document:
    """Whether a job is in the turn that ended, and may move."""
    movable = [current.value for current in Status if can_move(current, Status.FINISHED)]
    numbers = [ending.turn.number for ending in endings]
    return {
        "$and": [{"$in": ["$status", movable]}, {"$eq": [{"$ifNull": ["$turn_number", 1]}, _own(ids, numbers)]}],
    }


def _own(ids: Sequence[str], values: Sequence[object]) -> Document:
    """Write the expression that gives each job its own value; literal, because outputs may begin with a dollar.

    It is a binary search: from a list of all values, each job would copy all of them to take its own.
    """
    by_id = sorted(zip(ids, values, strict=True), key=itemgetter(0))
    return _search([job_id for job_id, _ in by_id], [value for _, value in by_id])


def _search(ids: list[str], values: list[object]) -> Document:
    if all(value == values[0] for value in values):
        return {"$literal": values[0]}
    middle = len(ids) // 2
    lower, upper = _search(ids[:middle], values[:middle]), _search(ids[middle:], values[middle:])
    return {"$cond": [{"$lt": ["$_id", ids[middle]]}, lower, upper]}


def _chunks(endings: Sequence[Ending]) -> Iterator[list[tuple[Ending, Report]]]:
    chunk: list[tuple[Ending, Report]] = []
    size = 0
    for ending in endings:
        report = ending.report
        if report is None:
            continue
        length = len(report.output or "") + (0 if report.failure is None else len(report.failure.traceback))
        if chunk and (len(chunk) == UPDATED_AT_ONCE or size + length > UPDATED_AT_ONCE_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((ending, report))
        size += length
    if chunk:
        yield chunk
