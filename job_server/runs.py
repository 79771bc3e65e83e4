"""A run of a turn by a handler, and what comes of it."""

from __future__ import annotations

from hasty.jobs import Failure, Status, Turn
from hasty.values import quick_dataclass


@quick_dataclass(frozen=True, slots=True)
class Run:
    """A run of a turn: `run` counts the runs of the turn from 1; `alone` has it run in a child process of its own."""

    turn: Turn
    run: int
    alone: bool = False


@quick_dataclass(frozen=True, slots=True)
class Result:
    """What came of a run; times in Unix seconds.

    `status` is `FINISHED` with `output`, a JSON text; `FAILED` with `failure`, which no attempt may follow if it is
    `final`; `CANCELLED`; `PROCESSING`, when the handler asks to be run again after `delay_s` seconds; None, when the
    handler here does not understand the input, with what it objects to as `failure`. `run` is the number of the run
    that came to it.
    """

    status: Status | None
    started_at: float
    ended_at: float
    version: str
    run: int
    output: str | None = None
    failure: Failure | None = None
    final: bool = False
    delay_s: float = 0.0


@quick_dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `done` from 0 to 1, a note, and when the handler said so, in Unix seconds."""

    done: float
    note: str
    at: float
