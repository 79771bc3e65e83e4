"""Hasty on a cluster of three NATS servers: steady load, one fault of the cluster, rest, and the checker's verdict.

A pause is the longest time in which no job reached its outcome: from the fault, or shortly before, until every job
that was accepted up to the end of the load is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient

from hasty.server.local_stack import Stack, StackConfig
from tests.chaos import checker, facts
from tests.chaos.callers import Callers
from tests.chaos.checker import Consumer, Facts, Process, Rules, Violation
from tests.chaos.history import History, run_clock
from tests.chaos.load import Flight, Load
from tests.chaos.system import SERVICES
from tests.cluster import Cluster
from tests.eventually import eventually

RATE: Final = 40.0
COOLDOWN_S: Final = 8.0
BEFORE_S: Final = 1.0
AFTER_S: Final = 2.0
DONE_WITHIN_S: Final = 60.0
OUTAGE_S: Final = 6.0
JOBS_WAIT: Final = 20
FROZEN_S: Final = 20.0
"""Longer than a client takes to find out that its server is deaf: two pings of 5 s, and a third that is due."""

ENVIRONMENT: Final = {
    "HASTY_NATS_REPLICAS": "3",
    "HASTY_ACK_WAIT_S": "3",
    "HASTY_COOLDOWN_S": str(COOLDOWN_S),
    "HASTY_JOB_SLEEP_MIN_S": "0.05",
    "HASTY_JOB_SLEEP_MAX_S": "0.3",
    "HASTY_JOB_TIMEOUT_S": "0.25",
}


@dataclass
class ThreeNodes:
    """The cluster, the services on it, and everything that was asked and seen since the start."""

    cluster: Cluster
    stack: Stack
    api: AsyncMongoClient[dict[str, Any]]
    job: AsyncMongoClient[dict[str, Any]]
    history: History = field(default_factory=History)
    loads: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[ThreeNodes]:
        """Run it; the stream has three copies when this is entered."""
        async with contextlib.AsyncExitStack() as opened:
            cluster = await opened.enter_async_context(Cluster.running(folder / "cluster"))
            config = StackConfig(
                folder=folder / "stack",
                api_servers=2,
                job_servers=2,
                nats_url=cluster.url,
                environment=ENVIRONMENT,
                restart_pause_s=0.1,
            )
            stack = await opened.enter_async_context(Stack.running(config))
            api = await opened.enter_async_context(facts.database(stack, "api-mongo"))
            job = await opened.enter_async_context(facts.database(stack, "job-mongo"))
            await cluster.ready()
            yield cls(cluster, stack, api, job)

    async def pause_of(self, fault: Callable[[ThreeNodes], Awaitable[None]]) -> float:
        """Give the pause, in seconds, that a fault makes in a steady load of `RATE` jobs a second.

        Returns when the fault is healed and every accepted job has its outcome.

        Raises:
            TimeoutError: when a job has none within `DONE_WITHIN_S` of the end of the load.
        """
        self.loads += 1
        host, _, port = self.stack.url.removeprefix("http://").rpartition(":")
        callers = Callers(host, int(port), connect_within_s=4, answer_within_s=12)
        flight = Flight(self.api.hasty_api.jobs)
        load = Load(callers, self.history, flight, random.Random(self.loads), RATE, f"load-{self.loads}")
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(flight.follow(), name="flight")
            loading = tasks.create_task(load.run(stop), name="load")
            await asyncio.sleep(BEFORE_S)
            since = run_clock() - BEFORE_S / 2
            await fault(self)
            await asyncio.sleep(AFTER_S)
            stop.set()
            await loading
            async with asyncio.timeout(DONE_WITHIN_S):
                await flight.landed(flight.under_way)
            following.cancel()
        return await self._longest_time_without_outcome(since)

    async def jobs_wait(self) -> bool:
        """Whether the stream holds jobs that no job-server has taken."""
        return (await owed(self.cluster))[0].pending > JOBS_WAIT

    async def _nothing_owed(self) -> bool:
        return not any(consumer.pending or consumer.unacknowledged for consumer in await owed(self.cluster))

    async def _longest_time_without_outcome(self, since: float) -> float:
        found = self.api.hasty_api.jobs.find({"ended_at": {"$gt": dt.datetime.fromtimestamp(since, dt.UTC)}})
        times: list[float] = sorted([job["ended_at"].replace(tzinfo=dt.UTC).timestamp() async for job in found])
        return max(later - earlier for earlier, later in pairwise([since, *times]))

    async def violations(self) -> list[Violation]:
        """Wait for rest and judge everything since the start; no process of the services may have ended by itself."""
        await self.cluster.ready()
        await asyncio.gather(*(child.ready() for child in self.stack.children.values()))
        with contextlib.suppress(AssertionError):  # then the checker says what is left
            await eventually(self._nothing_owed, within_s=DONE_WITHIN_S, every_s=0.3)
        found = Facts(
            jobs=await facts.jobs(self.api),
            outcomes=await facts.outcomes(self.job),
            dead_letters=[
                *await facts.dead_letters(self.api, "hasty_api"),
                *await facts.dead_letters(self.job, "hasty_job"),
            ],
            consumers=await owed(self.cluster),
            processes=[
                Process(
                    name=name,
                    exits=tuple(child.exits),
                    expected_exits=frozenset({0}),
                    troubles=tuple(facts.troubles(child.log)),
                )
                for name, child in self.stack.children.items()
                if child.role in SERVICES
            ],
        )
        return checker.judge(self.history, found, Rules(cooldown_s=COOLDOWN_S))


async def leader_killed(system: ThreeNodes) -> None:
    """SIGKILL of the server that leads the stream and its consumers; it is started again at once."""
    leader = await system.cluster.lead_by_one(facts.DURABLES)
    await leader.kill()
    await system.cluster.ready()


async def follower_killed(system: ThreeNodes) -> None:
    """SIGKILL of a server that only keeps a copy; it is started again at once."""
    await system.cluster.lead_by_one(facts.DURABLES)
    await (await system.cluster.followers())[0].kill()
    await system.cluster.ready()


async def two_killed(system: ThreeNodes) -> None:
    """The leader and a follower stay down for 6 s: no quorum."""
    down = [await system.cluster.leader(), (await system.cluster.followers())[0]]
    await asyncio.gather(*(node.stay_down() for node in down))
    await asyncio.sleep(OUTAGE_S)
    await system.cluster.start(*down)
    await system.cluster.ready()


async def leader_frozen(system: ThreeNodes) -> None:
    """The leader stands still for 20 s, connections and all, and then goes on."""
    leader = await system.cluster.leader()
    leader.pause()
    await asyncio.sleep(FROZEN_S)
    leader.resume()
    await system.cluster.ready()


async def stores_wiped(system: ThreeNodes) -> None:
    """Every server loses all it had stored, jobs among it that no job-server had taken: they are stopped meanwhile."""
    nodes = system.cluster.nodes.values()
    job_servers = [child for child in system.stack.children.values() if child.role == "job-server"]
    await asyncio.gather(*(child.terminate() for child in job_servers))
    await eventually(system.jobs_wait)
    await asyncio.gather(*(node.stay_down() for node in nodes))
    for node in nodes:
        node.wipe()
    await asyncio.gather(system.cluster.start(*nodes), *(child.start() for child in job_servers))
    await system.cluster.ready()


async def upgraded(system: ThreeNodes) -> None:
    """One server after the other leaves in lame-duck mode and comes back."""
    for node in system.cluster.nodes.values():
        await system.cluster.upgrade(node)
        await system.cluster.ready()


FAULTS: Final[dict[str, Callable[[ThreeNodes], Awaitable[None]]]] = {
    "the stream's leader is killed": leader_killed,
    "a follower is killed": follower_killed,
    "two of three are killed": two_killed,
    "the stream's leader is frozen": leader_frozen,
    "all stores are wiped": stores_wiped,
    "the servers are upgraded one by one": upgraded,
}
"""What happens to the cluster, by the name under which docs/faults.md lists it."""


async def measure(folder: Path, times: int) -> dict[str, list[float]]:
    """Give the pauses that each fault makes, so many of each, in turn.

    Raises:
        RuntimeError: when the checker objects; its text says to what.
    """
    found: dict[str, list[float]] = {name: [] for name in FAULTS}
    async with ThreeNodes.running(folder) as system:
        for _ in range(times):
            for name, fault in FAULTS.items():
                found[name].append(round(await system.pause_of(fault), 2))
                if violations := await system.violations():
                    raise RuntimeError(f"after {name}: {', '.join(map(str, violations))}")
    return found


async def owed(cluster: Cluster) -> list[Consumer]:
    """Ask the cluster what it still owes to each durable consumer."""
    found: list[Consumer] = []
    for durable in facts.DURABLES:
        info = await cluster.api(f"CONSUMER.INFO.{facts.STREAM}.{durable}")
        found.append(Consumer(durable, info["num_pending"], info["num_ack_pending"]))
    return found
