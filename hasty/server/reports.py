"""A report as both databases keep it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hasty.jobs import Failure, Reason, Report

Document = dict[str, Any]


def report_document(report: Report) -> Document:
    """Write a report."""
    document: Document = asdict(report)
    if report.failure is not None:
        document["failure"]["reason"] = report.failure.reason.value
    return {name: value for name, value in document.items() if value is not None}


def report_of(row: Document) -> Report:
    """Read a report."""
    failure: dict[str, Any] | None = row.get("failure")
    if failure is None:
        return Report(**row)
    return Report(**{**row, "failure": Failure(**{**failure, "reason": Reason(failure["reason"])})})
