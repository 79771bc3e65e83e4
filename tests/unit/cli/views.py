"""A system that is well, as the client shows it."""

from datetime import UTC, datetime

from hasty.client import Kind, Overview, Quantiles, Worker

AT = datetime(2026, 11, 28, 20, tzinfo=UTC)

KIND = Kind(
    name="greet",
    description="Greets.",
    way="async",
    version="v1",
    versions=("v1",),
    input_schema={},
    output_schema={},
    key=None,
    cooldown_s=0,
    attempts=1,
    first_s=1,
    most_s=1,
    timeout_s=60,
    at_most_once=False,
    workers=("w-1",),
    free_slots=9,
)
WORKER = Worker(
    "w-1",
    silent=False,
    last_sign_s=0.4,
    kinds={"greet": "v1"},
    free_slots={"greet": 9},
    held=1,
    running=1,
    sleeping=0,
)
OVERVIEW = Overview(
    at=AT,
    span_s=60,
    sampled=False,
    accepted=7,
    processing=1,
    finished=4,
    failed=2,
    cancelled=0,
    to_start_s=Quantiles(0.01, 0.02, 0.03),
    to_end_s=None,
    unfinished=1,
    running=1,
    free_slots=9,
    workers=1,
    silent_workers=0,
    verdict="All is well",
    ended_per_s=0.1,
)
