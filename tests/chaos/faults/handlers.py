"""Handlers that do harm, child processes that die or stand still, kinds that nobody serves, two versions of one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import psutil

from hasty.server.local_stack import Child
from tests.chaos.faults.crashes import POINTS, crash_at
from tests.chaos.faults.operations import restart
from tests.chaos.history import run_clock
from tests.chaos.system import FaultKind, Injection, NotReached, System, last, until
from tests.chaos.task_load import WORK, Order

_JOB: Final = frozenset({"job-server"})
_HANDLERS: Final = frozenset({"handlers"})
_ENDS_WITHIN_S: Final = 110.0
_CHILD_WITHIN_S: Final = 15.0
_LOST: Final = ("failed/lost",)
_LOST_OR_NOT: Final = ("failed/lost", "finished")
"""A job-server that stood still itself, or another fault, may have let it go on."""


async def _killed(system: System, hit: Injection) -> None:
    """The job-server starts its jobs again by itself, in a new child."""
    server, child = await _child(system, hit)
    hit.begins(server.name, f"child {child.pid}")
    child.kill()
    await until(lambda: not child.is_running(), within_s=5)


async def _stopped(system: System, hit: Injection) -> None:
    """It answers no ping, so its job-server kills it."""
    server, child = await _child(system, hit)
    hit.begins(server.name, f"child {child.pid}")
    child.suspend()
    try:
        await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, within_s=15)
    except psutil.NoSuchProcess:
        return
    except TimeoutError:
        child.resume()
        raise NotReached(f"{server.name} itself did not look after its child") from None


async def _child(system: System, hit: Injection) -> tuple[Child, psutil.Process]:
    """A child with handlers of some job-server."""
    server = hit.chance.choice(system.children("job-server"))
    found: list[psutil.Process] = []

    def there() -> bool:
        try:
            found[:] = psutil.Process(server.pid).children() if server.pid is not None else []
        except psutil.NoSuchProcess:
            return False
        return bool(found)

    try:
        await until(there, within_s=_CHILD_WITHIN_S)
    except TimeoutError:
        raise NotReached(f"{server.name} has no child") from None
    return server, hit.chance.choice(found)


async def _harm(kind: str, expected: tuple[str, ...], system: System, hit: Injection) -> None:
    """Have a job of a harmful kind run, among all others; it does its harm beside the faults that follow."""
    hit.begins("handlers", kind)
    post = await system.tasks.post(Order(kind, {}, expected))
    if not post.accepted or post.job_id is None:
        raise NotReached("no such job was accepted")
    system.continue_beside(_until_ended(system, hit, post.job_id))


async def _until_ended(system: System, hit: Injection, job_id: str) -> None:
    try:
        async with asyncio.timeout(_ENDS_WITHIN_S):
            await system.flight.landed([job_id])
    except TimeoutError:
        hit.fault.note += f" not ended after {_ENDS_WITHIN_S:g} s"
    hit.fault.healed = run_clock()


async def _unserved(system: System, hit: Injection) -> None:
    """Its jobs are accepted meanwhile, and wait."""
    servers = system.children("job-server")
    marks = [system.faults_folder / f"work-{server.address.rpartition(':')[2]}" for server in servers]
    hit.begins("every job-server", "without the kind versioned")
    try:
        for mark in marks:
            mark.write_text(str(WORK / "tasks_without.py"), encoding="utf-8")
        await asyncio.gather(*(restart(system, server) for server in servers))
        for _ in range(10):
            system.tasks.begin(Order("versioned", {}))
        await last(hit, 1, 2)
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)
        await asyncio.gather(*(restart(system, server) for server in servers))


async def _side_by_side(system: System, hit: Injection) -> None:
    """Jobs that only the next version takes are handed back by the others, until it has them."""
    server = hit.chance.choice(system.children("job-server"))
    mark = system.faults_folder / f"work-{server.address.rpartition(':')[2]}"
    hit.begins(server.name, "the next version of the handlers")
    mark.write_text(str(WORK / "tasks_next.py"), encoding="utf-8")
    await restart(system, server)
    try:
        # Jobs that nobody understands any more would never end.
        async with asyncio.timeout(3 * _ENDS_WITHIN_S):
            orders = [Order("versioned", {"colour": "red"}) for _ in range(6)] + [Order("versioned", {})] * 6
            accepted = await asyncio.gather(*(system.tasks.done(order) for order in orders))
    except TimeoutError:
        raise NotReached("jobs of the next version had not ended in time") from None
    finally:
        mark.unlink(missing_ok=True)
        await restart(system, server)
    if not any(accepted):
        raise NotReached("no job was accepted")


_rounds = itertools.count()


async def _cancels_at_a_crash(system: System, hit: Injection) -> None:
    """Each time at another point of the code, with jobs cancelled at that very moment."""
    point = tuple(POINTS)[next(_rounds) % len(POINTS)]
    cancelling = asyncio.create_task(_cancel_steadily(system, hit), name="cancel")
    try:
        await crash_at(point, system, hit)
    finally:
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)
        hit.fault.note = f"{point}, {hit.fault.note}"


async def _cancel_steadily(system: System, hit: Injection) -> None:
    while True:
        for delay_s in (0.0, 0.0, 2.0):
            system.tasks.begin(Order("quick", {"seconds": 0.3}, delay_s=delay_s), hit.chance.uniform(0, 0.4))
        await asyncio.sleep(0.2)


def _needs_handlers(system: System) -> str:
    return "" if system.tasks.rate else "there are no handlers in this run"


def _fault(
    name: str, what: str, inject: Callable[[System, Injection], Awaitable[None]], touches: frozenset[str] = _HANDLERS
) -> FaultKind:
    return FaultKind(name, what, touches, inject, _needs_handlers)


KINDS: Final = (
    _fault("child killed", "SIGKILL of a child process with handlers", _killed, _JOB),
    _fault("child stopped", "a child process with handlers stands still", _stopped, _JOB),
    _fault("handler blocks the loop", "an async handler keeps the loop", partial(_harm, "blocks_loop", _LOST_OR_NOT)),
    _fault(
        "handler never returns",
        "a thread listens to nothing, beyond its timeout",
        partial(_harm, "never_returns", ("failed/timeout", "failed/lost")),
    ),
    _fault("handler stops itself", "SIGSTOP of its own child", partial(_harm, "stops_itself", _LOST_OR_NOT)),
    _fault("handler exits", "a handler ends its child", partial(_harm, "exits", _LOST)),
    _fault("handler forks", "a handler leaves processes behind", partial(_harm, "forks", ("finished",))),
    _fault(
        "handler writes garbage",
        "a handler writes to all sockets of its child",
        partial(_harm, "writes_garbage", _LOST_OR_NOT),
    ),
    _fault("handler eats memory", "a handler takes memory until it is killed", partial(_harm, "eats_memory", _LOST)),
    _fault("kind unserved", "no job-server serves a kind for a while", _unserved, _JOB | _HANDLERS),
    _fault("kind in two versions", "one job-server serves the next version", _side_by_side, _JOB | _HANDLERS),
    _fault(
        "cancels at a crash",
        "a service dies at a point of its code while jobs are cancelled",
        _cancels_at_a_crash,
        frozenset({"api-server", "job-server"}),
    ),
)
