"""SIGKILL and SIGSTOP of processes at any time, and processes that wedge themselves."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.chaos.system import FaultKind, Injection, NotReached, System, last, until

EVERYTHING: Final = frozenset({"api-server", "job-server", "nats", "api-mongo", "job-mongo", "nginx"})
WATCHDOG: Final = 70


async def _kill_api_server(system: System, hit: Injection) -> None:
    await _kill_one("api-server", system, hit)


async def _kill_job_server(system: System, hit: Injection) -> None:
    await _kill_one("job-server", system, hit)


async def _kill_nginx(system: System, hit: Injection) -> None:
    await _kill_one("nginx", system, hit)


async def _kill_one(role: str, system: System, hit: Injection) -> None:
    victim = hit.chance.choice(system.children(role))
    await victim.ready(60)
    hit.begins(victim.name)
    await system.killed([victim])


async def _kill_all_job_servers(system: System, hit: Injection) -> None:
    hit.begins("every job-server")
    await system.killed(system.children("job-server"))


async def _kill_everything(system: System, hit: Injection) -> None:
    hit.begins("every process")
    await system.killed(system.stack.children.values())


async def _zombie(system: System, hit: Injection) -> None:
    """Its jobs are redelivered while it stands still; when it wakes it reports outcomes that came too late."""
    victim = hit.chance.choice(system.children("job-server"))
    hit.begins(victim.name)
    victim.pause()
    try:
        await asyncio.sleep(system.ack_wait_s + hit.chance.uniform(0.5, 1.5))
    finally:
        victim.resume()
    await victim.ready(60)


async def _pause_api_server(system: System, hit: Injection) -> None:
    victim = hit.chance.choice(system.children("api-server"))
    hit.begins(victim.name)
    victim.pause()
    try:
        await last(hit, 1, 3)
    finally:
        victim.resume()
    await victim.ready(60)


async def _close_client(system: System, hit: Injection) -> None:
    await _wedge("close-client", system, hit)


async def _block_loop(system: System, hit: Injection) -> None:
    await _wedge(f"block {system.silence_s * 2 + 2:g}", system, hit)


async def _wedge(command: str, system: System, hit: Injection) -> None:
    """Wait until the process has left by itself and its supervisor has brought it back."""
    victim = hit.chance.choice(system.children("api-server", "job-server"))
    system.allow(victim, WATCHDOG)
    hit.begins(victim.name)
    pid = await system.tell(victim, command)
    try:
        await until(lambda: victim.pid != pid, within_s=system.silence_s * 2 + 10)
    except TimeoutError:
        raise NotReached(f"{victim.name} neither healed nor left after {command}") from None
    await victim.ready(60)


_API: Final = frozenset({"api-server"})
_JOB: Final = frozenset({"job-server"})

KINDS: Final = (
    FaultKind("kill api-server", "SIGKILL of an api-server at any time", _API, _kill_api_server),
    FaultKind("kill job-server", "SIGKILL of a job-server at any time", _JOB, _kill_job_server),
    FaultKind("kill all job-servers", "SIGKILL of every job-server at once", _JOB, _kill_all_job_servers),
    FaultKind("kill nginx", "SIGKILL of nginx", frozenset({"nginx"}), _kill_nginx),
    FaultKind("kill everything", "SIGKILL of every process of the stack at once", EVERYTHING, _kill_everything),
    FaultKind("zombie", "a job-server stands still beyond the acknowledgement wait, then goes on", _JOB, _zombie),
    FaultKind("pause api-server", "an api-server stands still, then goes on", _API, _pause_api_server),
    FaultKind("client closed", "the broker's client closes under a service", _API | _JOB, _close_client),
    FaultKind("loop blocked", "a service's event loop blocks beyond the watchdog's timeout", _API | _JOB, _block_loop),
)
