"""What the api-server counts, for `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from api_server.clock import DatabaseClock

ACCEPTED: Final = Counter("hasty_jobs_accepted_total", "Jobs that were stored and answered with 201")
REFUSED: Final = Counter("hasty_jobs_refused_total", "Requests refused within the cooldown of the object's latest job")
DISPATCHED: Final = Counter(
    "hasty_jobs_dispatched_total", "Dispatches that the broker holds: first ones and rescues", ["kind"]
)
APPLIED: Final = Counter("hasty_outcomes_applied_total", "Jobs brought to a terminal status", ["status"])


def publish_clock_offset(clock: DatabaseClock) -> None:
    """Show how far this machine's wall clock is off the database's; nothing is decided by it."""
    gauge = Gauge("hasty_clock_offset_seconds", "Host's wall clock ahead of the database's")
    gauge.set_function(lambda: clock.host_offset_s() if clock.known else float("nan"))
