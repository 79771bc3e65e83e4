"""How a job's work ends. Pure decisions: no clock, no chance, no input or output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from hasty.jobs import Ending, Failure, Kind, Reason, Report, Status, Task, Turn
from hasty.retry import Retry, delay_s
from job_server.runs import Result

HAND_BACK_FIRST_S: Final = 0.25
HAND_BACK_MOST_S: Final = 10.0


def choose_sleep_s(
    least_s: float,
    most_s: float,
    whole: Callable[[int, int], int],
    any_in: Callable[[float, float], float],
) -> float:
    """Choose how long a job sleeps, within the bounds: whole seconds, as the original, when both bounds are whole.

    `whole(a, b)` gives a whole number and `any_in(a, b)` any number from a to b, both included.
    """
    if least_s == int(least_s) and most_s == int(most_s):
        return whole(int(least_s), int(most_s))
    return round(any_in(least_s, most_s), 3)


def ended_after(needed_s: float, timeout_s: float) -> tuple[Status, float]:
    """Say how work that needs `needed_s` seconds ends under a timeout, and after how many seconds."""
    if needed_s <= timeout_s:
        return Status.FINISHED, needed_s
    return Status.CANCELLED, timeout_s


def root_task(kind: str, object_id: str) -> Task:
    """Return what the root kind's handler is to do for an object."""
    return Task(kind, json.dumps({"object_id": object_id}, ensure_ascii=False))


def cancelled(turn: Turn, worker: str, now_s: float) -> Ending:
    """Return the ending of a turn that was cancelled before it began."""
    if turn.task is None:
        return Ending(turn, Status.CANCELLED, 0)
    return Ending(turn, Status.CANCELLED, 0, report=Report(worker, "", now_s, now_s, run=0))


def lost(turn: Turn, worker: str, now_s: float, runs: int) -> Ending:
    """Return the ending of a turn that may have run before, and must not run twice."""
    message = "it was started before, nobody knows how far it came, and it must not run twice"
    report = Report(worker, "", now_s, now_s, run=runs, failure=Failure(Reason.LOST, message=message))
    return Ending(turn, Status.FAILED, 0, report=report)


def hand_back_delay_s(attempt: int, chance: float) -> float:
    """Return how many seconds a turn waits that is handed back at its delivery number `attempt`.

    By a chance from 0 to 1, it is up to half shorter: pulls end every two seconds, so that a turn that always came back
    after ten seconds met the same worker again and again, and never the one that understands it.
    """
    return min(HAND_BACK_FIRST_S * 2.0 ** min(attempt - 1, 10), HAND_BACK_MOST_S) * (1 + chance) / 2


def conclude(
    turn: Turn, kind: Kind, result: Result, worker: str, chance: Callable[[], float]
) -> tuple[Status, Report] | None:
    """Say how a turn ends whose run came to `result`, and what is reported of it; None when it is to be handed back.

    A run that failed is followed by another attempt, unless it was the last one or must be final. `chance` gives
    numbers from 0 to 1.
    """
    status = result.status
    if status is None:
        if result.failure is None or turn.task is None or result.version not in turn.task.versions:
            return None
        # The schema of this very version took the input, which says less than the handler's types can: nobody else
        # would understand it better.
        status = Status.FAILED
    attempt = 1 if turn.task is None else turn.task.attempt
    asked = None if turn.task is None else turn.task.attempts
    attempts = asked or kind.attempts
    again = status is Status.FAILED and not result.final and attempt < attempts
    delay = delay_s(Retry(attempts, kind.first_s, kind.most_s), attempt, chance) if again else result.delay_s
    report = Report(
        worker,
        result.version,
        result.started_at,
        result.ended_at,
        result.run,
        result.output,
        result.failure,
        round(delay, 3),
        counts=status is not Status.PROCESSING,
    )
    return (Status.PROCESSING if again else status), report
