"""SIGKILL and SIGSTOP of processes at any time, and processes that wedge themselves."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.faults.ground import Ground, Hit, Kind, NotReached, last, until

EVERYTHING: Final = frozenset({"api-server", "job-server", "nats", "api-mongo", "job-mongo", "nginx"})
WATCHDOG: Final = 70


async def _kill_api_server(ground: Ground, hit: Hit) -> None:
    await _kill_one("api-server", ground, hit)


async def _kill_job_server(ground: Ground, hit: Hit) -> None:
    await _kill_one("job-server", ground, hit)


async def _kill_nginx(ground: Ground, hit: Hit) -> None:
    await _kill_one("nginx", ground, hit)


async def _kill_one(role: str, ground: Ground, hit: Hit) -> None:
    victim = hit.chance.choice(ground.children(role))
    await victim.ready(60)
    hit.begins(victim.name)
    await ground.killed([victim])


async def _kill_all_job_servers(ground: Ground, hit: Hit) -> None:
    hit.begins("every job-server")
    await ground.killed(ground.children("job-server"))


async def _kill_everything(ground: Ground, hit: Hit) -> None:
    hit.begins("every process")
    await ground.killed(ground.stack.children.values())


async def _zombie(ground: Ground, hit: Hit) -> None:
    """Its jobs are redelivered while it stands still; when it wakes it reports outcomes that came too late."""
    victim = hit.chance.choice(ground.children("job-server"))
    hit.begins(victim.name)
    victim.pause()
    try:
        await asyncio.sleep(ground.ack_wait_s + hit.chance.uniform(0.5, 1.5))
    finally:
        victim.resume()
    await victim.ready(60)


async def _pause_api_server(ground: Ground, hit: Hit) -> None:
    victim = hit.chance.choice(ground.children("api-server"))
    hit.begins(victim.name)
    victim.pause()
    try:
        await last(hit, 1, 3)
    finally:
        victim.resume()
    await victim.ready(60)


async def _close_client(ground: Ground, hit: Hit) -> None:
    await _wedge("close-client", ground, hit)


async def _block_loop(ground: Ground, hit: Hit) -> None:
    await _wedge(f"block {ground.silence_s * 2 + 2:g}", ground, hit)


async def _wedge(command: str, ground: Ground, hit: Hit) -> None:
    """Wait until the process has left by itself and its supervisor has brought it back."""
    victim = hit.chance.choice(ground.children("api-server", "job-server"))
    ground.allow(victim, WATCHDOG)
    hit.begins(victim.name)
    pid = await ground.tell(victim, command)
    try:
        await until(lambda: victim.pid != pid, within_s=ground.silence_s * 2 + 10)
    except TimeoutError:
        raise NotReached(f"{victim.name} neither healed nor left after {command}") from None
    await victim.ready(60)


_API: Final = frozenset({"api-server"})
_JOB: Final = frozenset({"job-server"})

KINDS: Final = (
    Kind("kill api-server", "SIGKILL of an api-server at any time", _API, _kill_api_server),
    Kind("kill job-server", "SIGKILL of a job-server at any time", _JOB, _kill_job_server),
    Kind("kill all job-servers", "SIGKILL of every job-server at once", _JOB, _kill_all_job_servers),
    Kind("kill nginx", "SIGKILL of nginx", frozenset({"nginx"}), _kill_nginx),
    Kind("kill everything", "SIGKILL of every process of the stack at once", EVERYTHING, _kill_everything),
    Kind("zombie", "a job-server stands still beyond the acknowledgement wait, then goes on", _JOB, _zombie),
    Kind("pause api-server", "an api-server stands still, then goes on", _API, _pause_api_server),
    Kind("client closed", "the broker's client closes under a service", _API | _JOB, _close_client),
    Kind("loop blocked", "a service's event loop blocks beyond the watchdog's patience", _API | _JOB, _block_loop),
)
