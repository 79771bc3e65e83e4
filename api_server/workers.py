"""Workers: what job-servers say of themselves, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from hasty.jobs import NOTE_MAX, SLEEP
from hasty.server.runtime.logs import get_logger
from hasty.values import quick_dataclass

log = get_logger(__name__)

PULSES: Final = "hasty.pulse"
"""Where job-servers say what they are and run, on core NATS."""

SILENT_AFTER_S: Final = 5.0
FORGOTTEN_AFTER_S: Final = 60.0
WORKERS_MAX: Final = 10_000
STOPPED_MAX: Final = 20_000

_Row = tuple[str, int, int, int, float, float | None, str | None]


class Pulse(BaseModel):
    """A pulse as it travels: one message, or part number `part[0]` of `part[1]`.

    `kinds` and `slots` are those of handlers; `sleep` has the slots of the built-in kind, where it is served. `asleep`
    says since when its jobs have been held, in Unix seconds; of those that sleep briefly, or are very many, some are
    not named. It is in the first part.
    """

    worker: Annotated[str, Field(min_length=1, max_length=256)]
    at: float
    kinds: dict[str, str]
    slots: dict[str, int]
    free: int | None = None
    sleep: int | None = None
    held: int
    asleep: dict[str, float] = {}
    running: list[_Row]
    part: tuple[int, int] = (0, 1)


@quick_dataclass(frozen=True, slots=True)
class Running:
    """A turn of a job that a worker runs; `started_at` is in Unix seconds by the worker's clock.

    `heard_s` is how many seconds ago the worker said so. Of a job that sleeps, version and run are not known.
    """

    worker: str
    version: str | None
    turn: int
    attempt: int
    run: int | None
    started_at: float
    done: float | None
    note: str | None
    heard_s: float


@dataclass(slots=True)
class Worker:
    """The newest that is known of a worker; `heard_at` is in the loop's time, `at` in Unix seconds by its clock.

    `kinds` are those that it serves, with the built-in one, which has no version; `slots` has each kind's share of the
    `free` places. Nothing is decided by `asleep`: it is there to be shown.
    """

    name: str
    at: float
    heard_at: float
    kinds: dict[str, str]
    slots: dict[str, int]
    free: int
    has_handlers: bool
    held: int
    running: dict[str, _Row]
    asleep: dict[str, float] = field(default_factory=dict)
    parts: dict[int, list[_Row]] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many places are taken: a worker that only sleeps does not say what it runs, but how much it holds."""
        return len(self.running) if self.has_handlers else self.held

    @property
    def sleeping(self) -> int:
        """How many jobs of the built-in kind it names beside those that take a place of a handler."""
        return len(self.asleep) if self.has_handlers else 0


class Workers:
    """The job-servers that were heard of in the last minute."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._left: dict[str, float] = {}
        # Who ran a job and no longer names it, and since when, the latest last.
        self._stopped: dict[str, tuple[str, float]] = {}

    def hear(self, data: bytes) -> None:
        """Take a pulse, or a part of one; never raises."""
        try:
            pulse = Pulse.model_validate_json(data)
        except ValidationError as error:
            log.debug("pulse_malformed", reason=str(error.errors(include_url=False, include_input=False)[0]["msg"]))
            return
        now = asyncio.get_running_loop().time()
        worker = self._workers.get(pulse.worker)
        if worker is None or worker.at != pulse.at:
            self._forget(now)
            if worker is None and len(self._workers) >= WORKERS_MAX:
                return
            running, asleep = ({}, {}) if worker is None else (worker.running, worker.asleep)
            free = max(pulse.slots.values(), default=0) if pulse.free is None else pulse.free
            kinds, slots = (pulse.kinds, pulse.slots) if pulse.sleep is None else _with_sleep(pulse, pulse.sleep)
            handlers = bool(pulse.kinds)
            worker = Worker(pulse.worker, pulse.at, now, kinds, slots, free, handlers, pulse.held, running, asleep)
            self._workers[pulse.worker] = worker
        self._left |= dict.fromkeys(worker.kinds, now)
        worker.parts[pulse.part[0]] = pulse.running
        if pulse.part[0] == 0:
            worker.asleep = pulse.asleep
        if len(worker.parts) >= pulse.part[1]:
            # What an earlier pulse said counts until the new one is complete.
            before, worker.running = worker.running, {row[0]: row for rows in worker.parts.values() for row in rows}
            self._note_stopped(worker, before, now)

    def all(self) -> list[Worker]:
        """Return all workers by name."""
        self._forget(asyncio.get_running_loop().time())
        return sorted(self._workers.values(), key=lambda worker: worker.name)

    def silent_s(self, worker: Worker) -> float:
        """Return for how long a worker has been silent."""
        return asyncio.get_running_loop().time() - worker.heard_at

    def is_silent(self, worker: Worker) -> bool:
        """Whether a worker has not been heard for so long that what it said no longer counts."""
        return self.silent_s(worker) >= SILENT_AFTER_S

    def running(self, job_id: str) -> Running | None:
        """Return who runs a job, as far as a worker has said so lately."""
        for worker in self._awake():
            row = worker.running.get(job_id)
            if row is not None:
                _, turn, attempt, run, started_at, done, note = row
                # The kind is not said, and one worker has one version.
                version = next(iter(worker.kinds.values()), "")
                note = None if note is None else note[:NOTE_MAX]
                heard_s = self.silent_s(worker)
                return Running(worker.name, version, turn, attempt, run, started_at, done, note, heard_s)
            slept_at = worker.asleep.get(job_id)
            if slept_at is not None:
                return Running(worker.name, None, 1, 1, None, slept_at, None, None, self.silent_s(worker))
        return None

    def run_turn(self, job_id: str, turn: int) -> bool:
        """Whether a worker has said lately that it runs this turn of a job: what runs of an earlier one is over."""
        rows = (worker.running.get(job_id) for worker in self._awake())
        return any(row is not None and row[1] == turn for row in rows)

    def silent_on(self, job_id: str) -> tuple[str, float] | None:
        """Return which worker ran a job when it was last heard, and for how long it has been silent."""
        for worker in self._workers.values():
            if (job_id in worker.running or job_id in worker.asleep) and self.is_silent(worker):
                return worker.name, self.silent_s(worker)
        return None

    def stopped_on(self, job_id: str) -> tuple[str, float] | None:
        """Return which worker ran a job and no longer names it, though it is heard, and since how many seconds."""
        found = self._stopped.get(job_id)
        return None if found is None else (found[0], asyncio.get_running_loop().time() - found[1])

    def serving(self, kind: str) -> list[Worker]:
        """Return the workers that serve a kind and are not silent."""
        return [worker for worker in self._awake() if kind in worker.kinds]

    def served(self) -> dict[str, set[str]]:
        """Return which versions are served now, by kind."""
        served: dict[str, set[str]] = {}
        for worker in self._awake():
            for kind, version in worker.kinds.items():
                served.setdefault(kind, set()).add(version)
        return served

    def left_s(self, kind: str) -> float | None:
        """Return how long ago a worker was last heard to serve a kind; None when none was since the start."""
        left_at = self._left.get(kind)
        return None if left_at is None else asyncio.get_running_loop().time() - left_at

    def _note_stopped(self, worker: Worker, before: dict[str, _Row], now: float) -> None:
        for job_id in before.keys() - worker.running.keys():
            self._stopped[job_id] = (worker.name, now)
        for job_id in worker.running.keys() & self._stopped.keys():
            del self._stopped[job_id]
        while self._stopped:
            job_id, (_, at) = next(iter(self._stopped.items()))
            if len(self._stopped) <= STOPPED_MAX and now - at < FORGOTTEN_AFTER_S:
                return
            del self._stopped[job_id]

    def _awake(self) -> Iterable[Worker]:
        now = asyncio.get_running_loop().time()
        return (worker for worker in self._workers.values() if now - worker.heard_at < SILENT_AFTER_S)

    def _forget(self, now: float) -> None:
        for name in [name for name, worker in self._workers.items() if now - worker.heard_at > FORGOTTEN_AFTER_S]:
            del self._workers[name]


def _with_sleep(pulse: Pulse, slots: int) -> tuple[dict[str, str], dict[str, int]]:
    """Return a pulse's kinds and slots with the built-in kind, behind those of handlers."""
    return {**pulse.kinds, SLEEP: ""}, {**pulse.slots, SLEEP: slots}
