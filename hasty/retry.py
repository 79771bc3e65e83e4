"""When a job that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: up to `attempts` attempts; the waits double from `first_s` seconds up to `most_s` seconds.

    Raises:
        ValueError: when there is no first attempt, or a wait is negative, or the waits are not in order.
    """

    attempts: int = 1
    first_s: float = 1.0
    most_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: there is at least one attempt")
        if not 0 <= self.first_s <= self.most_s:
            raise ValueError(f"first_s is {self.first_s:g} and most_s {self.most_s:g}: 0 <= first_s <= most_s")


def delay_s(policy: Retry, attempt: int, chance: Callable[[], float]) -> float:
    """Return how many seconds after attempt number `attempt` failed the next one is due.

    The wait doubles with each attempt. Of the wait, the second half is random, so that jobs that failed together do not
    come again together. `chance` gives numbers from 0 to 1.
    """
    whole = min(policy.first_s * 2.0 ** min(attempt - 1, 64), policy.most_s)
    return whole * (0.5 + 0.5 * chance())
