"""How soon work goes on after a fault: the system with its default settings, apart from HASTY_ACK_WAIT_S=5.

Each measurement makes one fault and gives the seconds from it, or from its healing, to the fact that shows work going
on. The jobs sleep 15 seconds or more, so within these times none of them ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from nats.js.errors import NotFoundError

from hasty.server.local_stack import Child, Stack, StackConfig
from tests.chaos import facts
from tests.chaos.system import until

ACK_WAIT_S: Final = 5
JOBS: Final = 20
_TIMEOUT_S: Final = 30.0


@dataclass
class MeasuredStack:
    """A stack with default settings, and what its probes say."""

    stack: Stack
    http: httpx.AsyncClient
    faults_folder: Path
    made: int = 0

    def children(self, role: str) -> list[Child]:
        """Give the children of a role."""
        return [child for _, child in sorted(self.stack.children.items()) if child.role == role]

    async def post(self, count: int) -> int:
        """Ask for new jobs at once; how many were accepted."""
        answers = await asyncio.gather(*(self._post() for _ in range(count)))
        return sum(answers)

    async def _post(self) -> bool:
        self.made += 1
        with contextlib.suppress(httpx.TransportError):
            answer = await self.http.post(f"{self.stack.url}/", json={"object_id": f"recovery/{self.made}"})
            return answer.status_code == 201
        return False

    async def held(self) -> int:
        """Count the jobs that job-servers work on right now."""
        return int(sum([await self.number(child, "hasty_jobs_held") for child in self.children("job-server")]))

    async def started(self) -> int:
        """Count the jobs that the living job-servers began."""
        return int(sum([await self.number(child, "hasty_jobs_started_total") for child in self.children("job-server")]))

    async def number(self, child: Child, name: str) -> float:
        """Read one metric; 0 while the process is down."""
        try:
            return (await facts.numbers(self.http, child)).get(name, 0)
        except httpx.TransportError:
            return 0

    async def seconds_until(self, fact: Callable[[], Awaitable[bool]], since: float) -> float:
        """Give the time from `since` (monotonic) to the fact; a fact that does not come raises TimeoutError."""
        async with asyncio.timeout(_TIMEOUT_S):
            while not await fact():  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.05)
        return time.monotonic() - since

    async def at_rest(self) -> None:
        """Wait until nobody works."""
        async with asyncio.timeout(120):
            while await self.held():  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def measured_stack(folder: Path) -> AsyncIterator[MeasuredStack]:
    """Run the stack that is measured: one api-server, two job-servers."""
    faults_folder = folder / "faults"
    faults_folder.mkdir(parents=True)
    environment = {"HASTY_ACK_WAIT_S": str(ACK_WAIT_S), "HASTY_FAULTS_DIR": str(faults_folder)}
    config = StackConfig(folder=folder, job_servers=2, environment=environment, restart_pause_s=0.5)
    async with Stack.running(config) as stack, httpx.AsyncClient(timeout=10) as http:
        yield MeasuredStack(stack, http, faults_folder)


async def killed_job_server(measured: MeasuredStack) -> float:
    """`kill -9` of a job-server: until all of its jobs have been begun by others."""
    await measured.at_rest()
    accepted = await measured.post(JOBS)
    await measured.seconds_until(lambda: _is(measured.held, accepted), time.monotonic())
    victim, other = measured.children("job-server")
    theirs = int(await measured.number(victim, "hasty_jobs_held"))
    before = int(await measured.number(other, "hasty_jobs_started_total"))
    since = time.monotonic()
    await victim.kill()

    async def begun_elsewhere() -> bool:
        others = await measured.number(other, "hasty_jobs_started_total") - before
        return others + await measured.number(victim, "hasty_jobs_started_total") >= theirs

    return await measured.seconds_until(begun_elsewhere, since)


async def restarted_broker(measured: MeasuredStack) -> float:
    """`kill -9` of the broker: from its return until a job that was accepted meanwhile is begun."""
    return await _restarted(measured, measured.stack.children["nats"])


async def restarted_api_database(measured: MeasuredStack) -> float:
    """`kill -9` of the api-server's database: from its return until a job that is posted then is begun."""
    return await _restarted(measured, measured.stack.children["api-mongo"])


async def restarted_job_database(measured: MeasuredStack) -> float:
    """`kill -9` of the job-server's database: from its return until a job that is posted then is begun."""
    return await _restarted(measured, measured.stack.children["job-mongo"])


async def _restarted(measured: MeasuredStack, child: Child) -> float:
    before = await measured.started()
    await child.kill()
    await measured.post(1)
    await child.ready(_TIMEOUT_S)
    since = time.monotonic()

    async def begun() -> bool:
        if await measured.started() > before:
            return True
        # What was refused meanwhile is asked for again, as a caller would.
        await measured.post(1)
        return await measured.started() > before

    return await measured.seconds_until(begun, since)


async def crashed_before_publish(measured: MeasuredStack) -> float:
    """An api-server dies between a job's insert and its publish: from its death until the broker holds the job."""
    (victim,) = measured.children("api-server")
    await victim.ready(_TIMEOUT_S)
    pid = victim.pid
    assert pid is not None
    await tell(measured.faults_folder, pid, "crash api.before_publish")
    posting = asyncio.create_task(measured.post(1))
    await until(lambda: victim.pid != pid, within_s=_TIMEOUT_S)
    since = time.monotonic()
    await posting
    client = await facts.connected(measured.stack)
    try:
        js = client.jetstream(timeout=3)

        async def dispatched() -> bool:
            try:
                latest = await js.get_last_msg(facts.STREAM, "job:created")
            except NotFoundError:  # nobody has published anything yet
                return False
            return f'"recovery/{measured.made}"'.encode() in (latest.data or b"")

        return await measured.seconds_until(dispatched, since)
    finally:
        await client.close()


async def tell(faults_folder: Path, pid: int, command: str) -> None:
    """Give a process a command through its fault file, and wait until it has read it."""
    file = faults_folder / str(pid)
    file.write_text(command + "\n", encoding="utf-8")
    os.kill(pid, signal.SIGUSR2)
    await until(lambda: not file.exists(), within_s=10)


async def _is(number: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await number() == wanted


MEASURES: Final[dict[str, tuple[Callable[[MeasuredStack], Awaitable[float]], float]]] = {
    "after `kill -9` of a job-server its jobs have been begun elsewhere": (killed_job_server, 8),
    "after a broker restart work goes on": (restarted_broker, 5),
    "after a restart of the api-server's database work goes on": (restarted_api_database, 5),
    "after a restart of the job-server's database work goes on": (restarted_job_database, 5),
    "after a crash between insert and publish the job is dispatched": (crashed_before_publish, 15),
}
"""What is measured, how, and the seconds it may take."""


async def measure(folder: Path, times: int) -> dict[str, list[float]]:
    """Measure each so many times on one stack, in turn."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    async with measured_stack(folder) as measured:
        for _ in range(times):
            for name, (what, _) in MEASURES.items():
                found[name].append(round(await what(measured), 2))
    return found
