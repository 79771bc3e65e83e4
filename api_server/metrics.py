"""What the api-server counts, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

ACCEPTED: Final = Counter("hasty_jobs_accepted_total", "Jobs that were stored and answered with 201")
REFUSED: Final = Counter("hasty_jobs_refused_total", "Requests refused within the cooldown of the object's latest job")
DISPATCHED: Final = Counter(
    "hasty_jobs_dispatched_total", "Dispatches that the broker holds: first ones and rescues", ["kind"]
)
FORGOTTEN: Final = Counter("hasty_jobs_forgotten_total", "Jobs deleted after HASTY_RETENTION_DAYS")
APPLIED: Final = Counter("hasty_endings_applied_total", "Jobs moved to a terminal status", ["status"])
