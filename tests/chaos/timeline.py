"""A violation's whole timeline: requests, sights, documents, messages, log lines and faults, in the order of time."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.chaos.checker import Facts, Violation
from tests.chaos.history import History

_AROUND_S: Final = 15.0
_LONGEST: Final = 400


def tell(violation: Violation, history: History, facts: Facts, logs: Path) -> str:
    """Write the timeline of one violation, for a person to read from top to bottom."""
    names = _names(violation.about, history, facts)
    lines = sorted(
        [*_requests(names, history), *_documents(names, facts), *_messages(names, history), *_log_lines(names, logs)],
        key=lambda line: line[0],
    )
    times = [at for at, _ in lines if at]
    faults = (
        list(_faults(history, min(times) - _AROUND_S, max(times) + _AROUND_S))
        if times
        else list(_faults(history, float("-inf"), float("inf")))[-20:]
    )
    told = "\n".join(f"  {_clock(at)}  {text[:_LONGEST]}" for at, text in sorted([*lines, *faults]))
    return f"{violation}\n{told}"


def _names(about: str, history: History, facts: Facts) -> frozenset[str]:
    """A job is also known by its object, an object by its jobs."""
    found = {about}
    for job in facts.jobs:
        if job.object_id == about:
            found.add(job.job_id)
        if job.job_id == about:
            found.add(job.object_id)
    for post in history.posts:
        if post.job_id == about:
            found.add(post.object_id)
    for task in history.tasks:
        if about in {task.job_id, task.mark, task.place}:
            found |= {task.mark, *([task.job_id] if task.job_id else [])}
    return frozenset(found)


def _requests(names: frozenset[str], history: History) -> Iterator[tuple[float, str]]:
    for post in history.posts:
        if post.object_id in names or post.job_id in names:
            answer = "no answer" if post.status is None else f"{post.status} {post.job_id or ''} {post.text}"
            yield post.sent, f"POST {post.object_id} -> {answer} ({post.ended - post.sent:.3f} s)"
    for sight in history.sights:
        if sight.job_id in names:
            yield sight.sent, f"GET {sight.job_id} -> {sight.code} {sight.status} sleep {sight.sleep_s}"

    for task in history.tasks:
        if task.job_id in names or task.mark in names:
            what = f"{task.kind} {task.mark}, expected {' or '.join(task.expected)}, delay {task.delay_s} s"
            yield task.sent, f"POST {what} -> {task.status} {task.job_id} {task.text} ({task.tries} tries)"
    for cancel in history.cancels:
        if cancel.job_id in names:
            yield cancel.sent, f"cancel {cancel.job_id} -> {cancel.code} {cancel.seen}"


def _documents(names: frozenset[str], facts: Facts) -> Iterator[tuple[float, str]]:
    yield from _turns(names, facts)
    for job in facts.jobs:
        if job.job_id in names or job.object_id in names:
            yield job.created_at, f"api-server's document: {json.dumps(asdict(job))}"
    for outcome in facts.outcomes:
        if outcome.job_id in names:
            yield 0.0, f"job-server's document: {json.dumps(asdict(outcome))}"


def _turns(names: frozenset[str], facts: Facts) -> Iterator[tuple[float, str]]:
    for task in facts.tasks:
        if task.job_id in names or task.place in names:
            yield task.created_at, f"api-server's document: {json.dumps(asdict(task))}"
    for ending in facts.endings:
        if ending.job_id in names:
            yield ending.recorded_at, f"job-server's document: {json.dumps(asdict(ending))}"
    for run in facts.runs:
        if run.job_id in names:
            which = f"run {run.run} of attempt {run.attempt} in process {run.pid}"
            yield run.started, f"{which} begins"
            yield run.until, f"{which} {'ends' if run.ended else 'was last seen alive'}"


def _messages(names: frozenset[str], history: History) -> Iterator[tuple[float, str]]:
    for sent in history.sent:
        if sent.about in names or sent.subject in names:
            yield sent.at, f"the tester published on {sent.subject} ({sent.why}): {sent.data[:200]!r}"


def _log_lines(names: frozenset[str], logs: Path) -> Iterator[tuple[float, str]]:
    for path in sorted(logs.glob("*.log")):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if any(name in line for name in names):
                    yield _time_of(line), f"[{path.stem}] {line.strip()}"


def _faults(history: History, since: float, until: float) -> Iterator[tuple[float, str]]:
    for fault in history.faults:
        if fault.began <= until and (fault.healed or fault.began) >= since:
            yield fault.began, f"fault {fault.number}: {fault.kind} on {fault.target} {fault.note}"
            if fault.healed:
                yield fault.healed, f"fault {fault.number} healed"


def _time_of(line: str) -> float:
    try:
        return dt.datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return 0.0


def _clock(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%H:%M:%S.%f")[:-3] if at else "(no time)   "
