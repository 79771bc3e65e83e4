"""SIGKILL of a service at a named point of its code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from api_server.store.leases import SWEEPS
from hasty.server.local_stack import Child
from tests.chaos.proxies import LinkState
from tests.chaos.system import FaultKind, Injection, NotReached, System, until
from tests.eventually import eventually

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
_REACHED_WITHIN_S: Final = 20.0
_PUBLISHED_LATE_AFTER_S: Final = 1.0


async def crash_at(point: str, system: System, hit: Injection) -> None:
    """Arm a point in one service, drive something past it, and wait until the process died of it and is back."""
    role = "api-server" if point.startswith("api.") else "job-server"
    victim = hit.chance.choice(system.children(role))
    nth = hit.chance.randint(1, 3)
    if point == "api.dispatcher_selected":
        # Only one api-server comes by, and not for certain more than once before another takes its place.
        victim, nth = await _sweeper(system), 1
    pid = await system.tell(victim, f"crash {_NAMES_IN_CODE.get(point, point)} {nth}")
    hit.begins(victim.name, f"passing {nth}")
    driver = asyncio.create_task(_drive(point, system), name=f"drive {point}")
    try:
        await until(lambda: victim.pid != pid, within_s=_REACHED_WITHIN_S)
    except TimeoutError:
        # It stays armed, so it must go.
        await system.killed([victim])
        raise NotReached(f"{victim.name} did not come by {point} within {_REACHED_WITHIN_S:g} s") from None
    finally:
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)
    await system.back([victim])


async def _sweeper(system: System) -> Child:
    """The api-server that sweeps for all; when it has just died, the one that takes over from it."""
    found: list[Child] = []

    async def claimed() -> bool:
        claim = await system.api["hasty_api"]["leases"].find_one({"_id": SWEEPS})
        owner = str(claim["owner"]) if claim else ""
        found[:] = [child for child in system.children("api-server") if f"-{child.pid}-" in owner]
        return bool(found)

    await eventually(claimed, within_s=_REACHED_WITHIN_S)
    return found[0]


async def _drive(point: str, system: System) -> None:
    """Make the rare points common: batches need company, and the dispatcher needs something that was not published."""
    while True:
        if point == "api.dispatcher_selected":
            proxies = [proxy for proxy in system.proxies.to("nats") if proxy.child.startswith("api-server")]
            async with system.state(proxies, LinkState.CUT):
                system.load.burst(10)
                await asyncio.sleep(_PUBLISHED_LATE_AFTER_S)
        elif point.endswith("mid_batch"):
            system.load.burst(40)
        await asyncio.sleep(2)


def _at(point: str) -> Callable[[System, Injection], Awaitable[None]]:
    return partial(crash_at, point)


KINDS: Final = tuple(
    FaultKind(f"crash {point}", what, frozenset({point.partition(".")[0] + "-server"}), _at(point))
    for point, what in POINTS.items()
)
