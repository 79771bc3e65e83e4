"""Pulses: what this job-server is and runs, told once a second to whoever listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Protocol

from hasty.jobs import NOTE_MAX, Kind
from job_server.held import Held, HeldTurns
from job_server.runs import Progress

PULSE_SUBJECT: Final = "hasty.pulse"
EVERY_S: Final = 1.0
RUNNING_IN_A_PART: Final = 100
"""Turns in one message, so that it stays below the broker's limit of 1 MiB whatever their notes."""

ASLEEP_AFTER_S: Final = 1.0
ASLEEP_MAX: Final = 1_000
"""So many sleeping turns are named at most, the longest held first, and none that sleeps for less than a second: of
short ones there may be thousands in a second, and a pulse must not grow with them."""


class Executor(Protocol):
    """What runs handlers; see `job_server.execution.Executor`."""

    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    @property
    def progress(self) -> Mapping[str, Progress]: ...


async def send_pulses(
    send: Callable[[bytes], Awaitable[None]],
    held: HeldTurns,
    executor: Executor,
    free_slots: Callable[[str], int],
    free_places: Callable[[], int],
    sleep_slots: Callable[[], int | None],
    *,
    worker: str,
    now_s: Callable[[], float],
) -> None:
    """Tell for ever; a message that cannot be sent is not missed, the next one has everything.

    `free_slots` gives a kind's share of the free places, `free_places` all of them. `sleep_slots` gives how many more
    jobs may sleep here, None when a handler does the root kind.
    """
    while True:
        for part in parts(held, executor, free_slots, free_places(), sleep_slots(), worker=worker, now_s=now_s()):
            await send(part)
        await asyncio.sleep(EVERY_S)


def parts(
    held: HeldTurns,
    executor: Executor,
    free_slots: Callable[[str], int],
    free: int,
    sleep_slots: int | None,
    *,
    worker: str,
    now_s: float,
) -> Iterator[bytes]:
    """Write a pulse: one message, or several when much is running."""
    loop_s = asyncio.get_running_loop().time()
    progress = executor.progress
    running = [
        _running(one, now_s - (loop_s - one.began), progress.get(one.turn.turn_id))
        for one in held
        if one.turn.task is not None and one.stop is not None
    ]
    asleep = {
        one.turn.job_id: round(now_s - (loop_s - one.began), 3)
        for one in islice((one for one in held if _sleeps(one, loop_s - ASLEEP_AFTER_S)), ASLEEP_MAX)
    }
    count = max(1, -(-len(running) // RUNNING_IN_A_PART))
    for n in range(count):
        yield json.dumps(
            {
                "worker": worker,
                "at": round(now_s, 3),
                "kinds": {name: kind.version for name, kind in executor.kinds.items()},
                "slots": {name: free_slots(name) for name in executor.kinds},
                "free": free,
                "sleep": sleep_slots,
                "held": len(held),
                "asleep": asleep if n == 0 else {},
                "running": running[n * RUNNING_IN_A_PART : (n + 1) * RUNNING_IN_A_PART],
                "part": [n, count],
            },
            separators=(",", ":"),
        ).encode()


def _sleeps(held: Held, since_s: float) -> bool:
    return held.turn.task is None and held.stop is not None and held.began <= since_s


def _running(held: Held, started_at: float, progress: Progress | None) -> list[Any]:
    attempt = 1 if held.turn.task is None else held.turn.task.attempt
    done, note = (None, None) if progress is None else (progress.done, progress.note[:NOTE_MAX])
    return [held.turn.job_id, held.turn.number, attempt, held.run, round(started_at, 3), done, note]
