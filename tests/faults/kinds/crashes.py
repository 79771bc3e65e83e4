"""SIGKILL of a service at a named point of its code."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.faults.ground import Ground, Hit, Kind, NotReached, until
from tests.faults.wires import Weather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POINTS: Final = {
    "api.before_insert": "api-server dies before it inserts a job",
    "api.after_insert": "api-server dies between a job's insert and its answer",
    "api.before_publish": "api-server dies before it publishes a job",
    "api.mid_batch": "api-server dies in the middle of publishing a batch",
    "api.after_publish": "api-server dies when the broker has acknowledged, before it takes note",
    "api.dispatcher_selected": "api-server's dispatcher dies between select and publish",
    "api.before_outcome_write": "api-server dies before it writes an outcome",
    "api.after_outcome_write": "api-server dies between an outcome's write and its acknowledgement",
    "job.after_fetch": "job-server dies after it fetched a job",
    "job.mid_work": "job-server dies while jobs sleep",
    "job.before_outcome": "job-server dies before it records an outcome",
    "job.after_outcome": "job-server dies between an outcome's record and its publish",
    "job.mid_batch": "job-server dies in the middle of publishing a batch",
    "job.after_publish": "job-server dies between an outcome's publish and the job's acknowledgement",
    "job.after_ack": "job-server dies after it acknowledged a job",
}

# Both services publish by the same code.
_NAMES_IN_CODE: Final = {"api.mid_batch": "publish.mid_batch", "job.mid_batch": "publish.mid_batch"}
_REACHED_WITHIN_S: Final = 12.0
_PUBLISHED_LATE_AFTER_S: Final = 1.0


async def crash_at(point: str, ground: Ground, hit: Hit) -> None:
    """Arm a point in one service, drive something past it, and wait until the process died of it and is back."""
    role = "api-server" if point.startswith("api.") else "job-server"
    victim = hit.chance.choice(ground.children(role))
    nth = hit.chance.randint(1, 3)
    pid = await ground.tell(victim, f"crash {_NAMES_IN_CODE.get(point, point)} {nth}")
    hit.begins(victim.name, f"passing {nth}")
    driver = asyncio.create_task(_drive(point, ground), name=f"drive {point}")
    try:
        await until(lambda: victim.pid != pid, within_s=_REACHED_WITHIN_S)
    except TimeoutError:
        # It stays armed, so it must go.
        await ground.killed([victim])
        raise NotReached(f"{victim.name} did not come by {point} within {_REACHED_WITHIN_S:g} s") from None
    finally:
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)
    await ground.back([victim])


async def _drive(point: str, ground: Ground) -> None:
    """Make the rare points common: batches need company, and the dispatcher needs something that was not published."""
    while True:
        if point == "api.dispatcher_selected":
            wires = [wire for wire in ground.wires.to("nats") if wire.child.startswith("api-server")]
            async with ground.weather(wires, Weather.CUT):
                ground.load.burst(10)
                await asyncio.sleep(_PUBLISHED_LATE_AFTER_S)
        elif point.endswith("mid_batch"):
            ground.load.burst(40)
        await asyncio.sleep(2)


def _at(point: str) -> Callable[[Ground, Hit], Awaitable[None]]:
    return partial(crash_at, point)


KINDS: Final = tuple(
    Kind(f"crash {point}", what, frozenset({point.partition(".")[0] + "-server"}), _at(point))
    for point, what in POINTS.items()
)
