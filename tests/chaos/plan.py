"""What a chaos run is to do, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.checker import Facts, Violation
from tests.chaos.faults import ALL
from tests.chaos.history import History
from tests.chaos.task_load import WORK

_OVERDUE_GROWS: Final = 8


@dataclass(frozen=True)
class Plan:
    """What to do: everything that is left to chance comes from the seed."""

    seed: int
    folder: Path
    seconds: float | None = None
    """Begin no fault after this long; None: until every kind of `kinds` was injected once."""
    kinds: Sequence[str] = tuple(ALL)
    overlap: int = 1
    """How many faults are injected side by side."""
    rate: float = 60
    task_rate: float = 0
    """Jobs for handlers a second, besides; 0: there are no handlers, and none of the faults that need them."""
    cancelled_part: float = 0.12
    """Which part of them is cancelled."""
    quiet_every: int = 100
    quiet_s: float = 30
    """After so many faults there are none for so long: some invariants hold without a fault only."""
    api_servers: int = 2
    job_servers: int = 3
    ack_wait_s: float = 3
    overdue_s: float = 10
    cooldown_s: float = 8
    silence_s: float = 4
    sleep_s: tuple[float, float] = (0.05, 0.5)
    timeout_s: float = 0.45
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    disks: bool = True
    warm_up_s: float = 4
    fault_grace_s: float = 20
    settle_s: float | None = None
    """The bound of I1; None: the longest wait of the rescue, and some more."""

    @property
    def bound_s(self) -> float:
        """Within this time after the last healing every job is terminal."""
        if self.settle_s is not None:
            return self.settle_s
        return self.overdue_s * _OVERDUE_GROWS + self.ack_wait_s + 30

    def settings(self, faults_folder: Path) -> dict[str, str]:
        """Give the services' environment."""
        return {
            "HASTY_FAULTS_DIR": str(faults_folder),
            "HASTY_ACK_WAIT_S": str(self.ack_wait_s),
            "HASTY_OVERDUE_S": str(self.overdue_s),
            "HASTY_COOLDOWN_S": str(self.cooldown_s),
            "HASTY_SILENCE_S": str(self.silence_s),
            "HASTY_JOB_SLEEP_MIN_S": str(self.sleep_s[0]),
            "HASTY_JOB_SLEEP_MAX_S": str(self.sleep_s[1]),
            "HASTY_JOB_TIMEOUT_S": str(self.timeout_s),
            **(self._work() if self.task_rate else {}),
            **self.environment,
        }

    def _work(self) -> dict[str, str]:
        return {
            "HASTY_WORK": str(WORK / "tasks.py"),
            "HASTY_THREADS": "24",
            "HASTY_PROCESSES": "3",
            "CHAOS_RUNS": str(self.runs_folder),
        }

    @property
    def runs_folder(self) -> Path:
        """Where handlers note their runs."""
        return self.folder.resolve() / "runs"


@dataclass
class Outcome:
    """What a run found."""

    plan: Plan
    history: History
    facts: Facts
    violations: list[Violation]
    timelines: list[str]
    obstacles: dict[str, str]
    not_reached: dict[str, int]
    seconds: float

    def again(self) -> set[str]:
        """Give the jobs whose outcome was recorded at a second or later delivery: they may have run twice."""
        return {outcome.job_id for outcome in self.facts.outcomes if outcome.attempt > 1}
