"""What the job-server counts, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

STARTED: Final = Counter("hasty_jobs_started_total", "Jobs whose work was begun here")
ENDED: Final = Counter("hasty_jobs_ended_total", "Jobs whose outcome was recorded and published from here", ["status"])
ADOPTED: Final = Counter("hasty_jobs_adopted_total", "Jobs for which another's outcome stood already")
HANDED_BACK: Final = Counter("hasty_jobs_handed_back_total", "Jobs handed back to the broker at the end of the process")
HELD: Final = Gauge("hasty_jobs_held", "Jobs being worked on or having their outcome recorded")
