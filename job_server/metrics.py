"""What the job-server counts, for `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge

STARTED: Final = Counter("hasty_jobs_started_total", "Jobs whose work was started here")
ENDED: Final = Counter("hasty_jobs_ended_total", "Jobs whose ending was recorded and published from here", ["status"])
ALREADY_ENDED: Final = Counter("hasty_jobs_already_ended_total", "Jobs for which an ending was recorded already")
CHILDREN_LOST: Final = Counter("hasty_children_lost_total", "Child processes with handlers that died or were killed")
HANDED_BACK: Final = Counter("hasty_jobs_handed_back_total", "Jobs handed back to the broker when the process stopped")


def publish_held(held: Callable[[], int]) -> None:
    """Show how many jobs are worked on or have their ending recorded."""
    Gauge("hasty_jobs_held", "Jobs being worked on or having their ending recorded").set_function(held)
