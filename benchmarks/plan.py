"""How much of everything a benchmark does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The size of each measurement; a figure is the median of `runs`."""

    runs: int = 5
    seconds: float = 10  # of one load
    warm_up_s: float = 3
    connections: int = 64
    jobs: int = 10_000  # of one run from submitted to finished
    held_jobs: int = 10_000
    held_sleep_s: float = 30
    latency_samples: int = 400  # per run, at 20 jobs a second
    stored_jobs: int = 1_000_000
    waiters: int = 5_000

    @property
    def described(self) -> str:
        """The plan in one line, for the table's caption."""
        runs = "one run" if self.runs == 1 else f"medians of {self.runs} runs"
        return f"{runs} of {self.seconds:g} s, {self.connections} connections"


FULL = Plan()
QUICK = Plan(runs=1, seconds=5, warm_up_s=1, jobs=5_000, latency_samples=200, stored_jobs=200_000, waiters=1_000)
