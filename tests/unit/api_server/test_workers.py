"""What is known of workers by their pulses."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from api_server import workers as module
from api_server.workers import Workers
from tests.unit.api_server.v1_world import FETCH, GREET, job_of, pulse

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Clock:
    """The loop's time, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still."""
    return Clock(monkeypatch)


async def test_newest_pulse_counts(clock: Clock) -> None:
    """What a worker ran before, it runs no more."""
    workers, job, other = Workers(), job_of(GREET, {}, NOON), job_of(GREET, {}, NOON)
    workers.hear(pulse(job, at=1))
    clock.now += 1
    workers.hear(pulse(other, at=2))

    assert workers.running(job.job_id) is None
    running = workers.running(other.job_id)
    assert running is not None
    assert (running.worker, running.version, running.done, running.note) == ("w-1", "v1", 0.5, "half")


async def test_only_the_turn_that_is_said_to_run_runs(clock: Clock) -> None:
    """The next one is not held back by a worker that has not heard of its end, and runs where another says so."""
    workers, job = Workers(), job_of(GREET, {}, NOON)
    workers.hear(pulse(job, worker="w-1", at=clock.now))
    assert workers.run_turn(job.job_id, 1)
    assert not workers.run_turn(job.job_id, 2)

    workers.hear(pulse(replace(job, turn_number=2), worker="w-2", at=clock.now))
    assert workers.run_turn(job.job_id, 2)

    clock.now += module.SILENT_AFTER_S
    assert not workers.run_turn(job.job_id, 2)


async def test_silent_worker_runs_and_serves_nothing(clock: Clock) -> None:
    """After five seconds; after a minute it is forgotten."""
    workers, job = Workers(), job_of(GREET, {}, NOON)
    workers.hear(pulse(job, at=1))
    assert [worker.name for worker in workers.serving("greet")] == ["w-1"]
    clock.now += module.SILENT_AFTER_S

    assert workers.running(job.job_id) is None
    assert workers.serving("greet") == []
    assert workers.served() == {}
    assert workers.left_s("greet") == module.SILENT_AFTER_S
    assert [workers.is_silent(worker) for worker in workers.all()] == [True]
    clock.now += module.FORGOTTEN_AFTER_S
    assert workers.all() == []


async def test_several_workers_serve_side_by_side(clock: Clock) -> None:
    """Each its kinds, with its versions."""
    workers = Workers()
    workers.hear(pulse(worker="w-1", at=clock.now))
    workers.hear(pulse(worker="w-2", at=clock.now, kind=FETCH))
    assert workers.served() == {"greet": {"v1"}, "fetch": {"v1"}}


async def test_pulse_in_parts_counts_when_it_is_complete(clock: Clock) -> None:
    """Until then the one before does: a job whose part has not come yet still runs."""
    workers = Workers()
    jobs = [job_of(GREET, {}, NOON) for _ in range(4)]

    def part(at: float, n: int, *running: int) -> bytes:
        whole: dict[str, Any] = json.loads(pulse(at=at))
        rows = [[jobs[one].job_id, 1, 1, 1, clock.now, None, None] for one in running]
        return json.dumps({**whole, "running": rows, "part": [n, 2]}).encode()

    def run() -> list[bool]:
        return [workers.running(job.job_id) is not None for job in jobs]

    workers.hear(part(1, 0, 0))
    workers.hear(part(1, 1, 1))
    assert run() == [True, True, False, False]
    workers.hear(part(2, 1, 3))
    assert run() == [True, True, False, False]
    workers.hear(part(2, 0, 2))
    assert run() == [False, False, True, True]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"worker": 1}', b"[" * 10_000])
async def test_malformed_pulse_is_ignored(data: bytes) -> None:
    """It must not stop what reads from the broker."""
    workers = Workers()
    workers.hear(data)
    assert workers.all() == []


async def test_free_places_are_those_of_all_kinds_together(clock: Clock) -> None:
    """Each kind has a share of them; a worker of an earlier version does not say them."""
    workers = Workers()
    shares = {**json.loads(pulse(at=clock.now)), "kinds": {"a": "v1", "b": "v1"}, "slots": {"a": 5, "b": 5}}
    workers.hear(json.dumps(shares).encode())
    assert [(worker.free, worker.taken) for worker in workers.all()] == [(5, 0)]
    workers.hear(json.dumps({**shares, "free": 10, "at": clock.now + 1}).encode())
    assert [(worker.free, worker.taken) for worker in workers.all()] == [(10, 0)]


async def test_job_that_sleeps_is_shown_and_nothing_is_decided_by_it(clock: Clock) -> None:
    """Its worker and its start are known, and no dispatch is postponed; a later pulse replaces the earlier one."""
    workers, job, other = Workers(), job_of(GREET, {}, NOON), job_of(GREET, {}, NOON)
    told = {**json.loads(pulse(at=1, sleep=3)), "asleep": {job.job_id: 900.0}}
    workers.hear(json.dumps(told).encode())
    running = workers.running(job.job_id)
    assert running is not None
    assert (running.worker, running.version, running.run, running.started_at) == ("w-1", None, None, 900.0)
    assert not workers.run_turn(job.job_id, 1)

    workers.hear(json.dumps({**told, "at": 2, "asleep": {other.job_id: 900.0}, "part": [0, 2]}).encode())
    workers.hear(json.dumps({**told, "at": 2, "asleep": {}, "part": [1, 2]}).encode())
    assert (workers.running(job.job_id), workers.running(other.job_id) is None) == (None, False)
    clock.now += module.SILENT_AFTER_S
    assert (workers.running(other.job_id), workers.silent_on(other.job_id)) == (None, ("w-1", 5.0))


async def test_worker_without_handlers_takes_places_by_what_it_holds(clock: Clock) -> None:
    """It does not say which jobs sleep."""
    workers = Workers()
    told = {**json.loads(pulse(at=clock.now)), "kinds": {}, "slots": {}, "free": 997, "held": 3}
    workers.hear(json.dumps(told).encode())
    assert [(worker.free, worker.taken) for worker in workers.all()] == [(997, 3)]
