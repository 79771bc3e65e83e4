"""How a job's work ends. Pure decisions: no clock, no chance, no input or output."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Ending(StrEnum):
    """The two ways in which a job's work can end."""

    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its event told it; `timestamp` is its creation in Unix seconds."""

    job_id: str
    object_id: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one recorded end of a job: `sleep_time_used` in seconds, `attempt` counts deliveries from 1."""

    job: Job
    ending: Ending
    sleep_time_used: float
    attempt: int


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


def ended_after(needed_s: float, timeout_s: float) -> tuple[Ending, float]:
    """Say how work that needs `needed_s` seconds ends under a timeout, and after how many seconds."""
    if needed_s <= timeout_s:
        return Ending.FINISHED, needed_s
    return Ending.CANCELLED, timeout_s
