"""A report as both databases keep it."""

from __future__ import annotations

from typing import Any, Final

from hasty.jobs import Failure, Reason, Report
from hasty.values import members_of

Document = dict[str, Any]

_REPORT: Final = members_of(Report)
_FAILURE: Final = members_of(Failure)


def report_document(report: Report) -> Document:
    """Write a report."""
    document: Document = _REPORT(report)
    if report.failure is not None:
        document["failure"] = {**_FAILURE(report.failure), "reason": report.failure.reason.value}
    return {name: value for name, value in document.items() if value is not None}


def report_of(row: Document) -> Report:
    """Read a report."""
    failure: dict[str, Any] | None = row.get("failure")
    if failure is None:
        return Report(**row)
    return Report(**{**row, "failure": Failure(**{**failure, "reason": Reason(failure["reason"])})})
