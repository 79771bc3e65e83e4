"""Jobs as documents: what the collection `jobs` holds, see the package."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from api_server.domain import JobRecord, PastTurn
from hasty.jobs import Ending, Job, Report, Status, Task
from hasty.server.mongo import Document
from hasty.server.reports import report_document, report_of
from hasty.values import members_of

task_document: Final = members_of(Task)
"""Write a task."""


def job_document(job: Job, due: datetime, owner: str) -> Document:
    """Write a new job. What only jobs of kinds have is left out of the others: they are the most."""
    document: Document = {
        "_id": job.job_id,
        "object_id": job.object_id,
        "run": job.run,
        "created_at": job.created_at,
        "sleep_time_used": job.sleep_time_used,
        "dispatches": job.dispatches,
        "status": job.status.value,
        "dispatch_due": due,
        "owner": owner,
    }
    if job.task is not None:
        document["turn_number"] = job.turn_number
        document["task"] = task_document(job.task)
    if job.retry_of is not None:
        document["retry_of"] = job.retry_of
    if job.batch is not None:
        document["batch"] = job.batch
    return document


def job_of(row: Document) -> Job:
    """Read a job."""
    task = row.get("task")
    return Job(
        row["_id"],
        row["object_id"],
        row["run"],
        row["created_at"],
        Status(row["status"]),
        row["sleep_time_used"],
        row["dispatches"],
        row.get("turn_number", 1),
        row.get("cancel_at"),
        None if task is None else task_of(task),
        row.get("retry_of"),
        row.get("batch"),
        row.get("unanswered_turn"),
    )


def record_of(row: Document) -> JobRecord:
    """Read everything that is known of a job."""
    report = row.get("report")
    return JobRecord(
        job_of(row),
        row.get("dispatch_due"),
        row.get("ended_at"),
        None if report is None else report_of(report),
        tuple(
            PastTurn(past["number"], past["attempt"], Status(past["status"]), report_of(past["report"]))
            for past in row.get("history", ())
        ),
        row.get("owner", ""),
    )


def task_of(row: Document) -> Task:
    """Read a task."""
    return Task(**{**row, "labels": tuple(row["labels"]), "versions": tuple(row["versions"])})


def past_document(ending: Ending, report: Report) -> Document:
    """Write a turn that ended and is followed by another."""
    attempt = 1 if ending.turn.task is None else ending.turn.task.attempt
    return {
        "number": ending.turn.number,
        "attempt": attempt,
        "status": ending.status.value,
        "report": report_document(report),
    }
