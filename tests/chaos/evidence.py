"""What is left of handlers' jobs: the api-server's documents, the job-server's, and what handlers noted themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskDoc:
    """A job of a kind as the api-server's database has it; times are Unix seconds.

    `reason` is why it failed, if it did; `past` holds number and attempt of each turn before the last one.
    """

    job_id: str
    kind: str
    place: str
    mark: str
    status: str
    created_at: float
    ended_at: float | None = None
    turn: int = 1
    reason: str = ""
    output: str | None = None
    due: bool = False
    dispatches: int = 1
    past: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class EndingDoc:
    """A turn's ending as the job-server's database has it; `run` is 0 for a turn that was never started."""

    job_id: str
    number: int
    status: str
    attempt: int
    recorded_at: float
    run: int = 1
    started_at: float = 0
    ended_at: float = 0
    delay_s: float = 0
    counts: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunDoc:
    """A run as its handler noted it: `ended` is None when it noted no end; `alive` is its process's last sign."""

    job_id: str
    kind: str
    attempt: int
    run: int
    pid: int
    started: float
    ended: float | None
    alive: float

    @property
    def until(self) -> float:
        """Until when it is known to have run."""
        return max(self.started, self.alive) if self.ended is None else self.ended


def task_doc(doc: dict[str, Any]) -> TaskDoc:
    """Read a job of a kind."""
    report = doc.get("report") or {}
    return TaskDoc(
        job_id=doc["_id"],
        kind=doc["task"]["kind"],
        place=doc["object_id"],
        mark=json.loads(doc["task"]["input"]).get("mark", ""),
        status=doc["status"],
        created_at=doc["created_at"].timestamp(),
        ended_at=doc["ended_at"].timestamp() if doc.get("ended_at") else None,
        turn=doc.get("turn_number", 1),
        reason=(report.get("failure") or {}).get("reason", ""),
        output=report.get("output"),
        due=doc.get("dispatch_due") is not None,
        dispatches=doc.get("dispatches", 0),
        past=tuple((past["number"], past["attempt"]) for past in doc.get("history", ())),
    )


def ending_doc(doc: dict[str, Any]) -> EndingDoc:
    """Read an ending of a handler's turn."""
    report = doc.get("report") or {}
    return EndingDoc(
        job_id=doc["_id"].partition(":")[0],
        number=doc.get("number", 1),
        status=doc["status"],
        attempt=doc["task_attempt"],
        recorded_at=doc["recorded_at"].timestamp(),
        run=report.get("run", 0),
        started_at=report.get("started_at", 0),
        ended_at=report.get("ended_at", 0),
        delay_s=report.get("delay_s", 0),
        counts=report.get("counts", True),
        reason=(report.get("failure") or {}).get("reason", ""),
    )


def read_runs(folder: Path) -> list[RunDoc]:
    """Read what all processes with handlers noted, see `work/run_log.py`."""
    return [run for file in sorted(folder.glob("*.jsonl")) for run in _runs_of(file)]


def _runs_of(file: Path) -> Iterator[RunDoc]:
    starts: list[dict[str, Any]] = []
    ends: dict[int, float] = {}
    open_runs: dict[tuple[str, int, int], int] = {}
    alive = 0.0
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        alive = max(alive, line["at"])
        if line["what"] == "start":
            open_runs[_run_of(line)] = len(starts)
            starts.append(line)
        elif line["what"] == "end" and (number := open_runs.pop(_run_of(line), None)) is not None:
            ends[number] = line["at"]
    for number, line in enumerate(starts):
        yield RunDoc(
            *(line["job_id"], line["kind"], line["attempt"], line["run"], line["pid"], line["at"]),
            ended=ends.get(number),
            alive=alive,
        )


def _run_of(line: dict[str, Any]) -> tuple[str, int, int]:
    return line["job_id"], line["attempt"], line["run"]
