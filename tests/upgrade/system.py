"""A stack under steady load whose services change their version, and the audit of everything that it was asked."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from hasty.server.local_stack import Child, Stack, StackConfig
from tests.chaos import facts
from tests.chaos.callers import Callers
from tests.chaos.checker import TERMINAL, Consumer, Facts, Process, Rules, judge
from tests.chaos.history import History
from tests.chaos.load import Flight, Load
from tests.eventually import eventually
from tests.upgrade.versions import Version, Versions

SERVICES = ("api-server-1", "api-server-2", "job-server-1", "job-server-2")
RATE = 15
ENDS_WITHIN_S = 60
"""Far below the 180 s after which a dispatched job without news is dispatched again: nothing here may need that."""


@dataclass
class System:
    """What a test sees of it; the databases are read past the services."""

    stack: Stack
    versions: Versions
    load: Load
    jobs_db: AsyncMongoClient[dict[str, Any]]
    outcomes_db: AsyncMongoClient[dict[str, Any]]
    loading: asyncio.Task[None]
    stop_load: asyncio.Event

    @property
    def history(self) -> History:
        """What the callers asked and were answered."""
        return self.load.history

    def child(self, name: str) -> Child:
        """One process of the stack."""
        return self.stack.children[name]

    async def accept(self, count: int) -> set[str]:
        """Post `count` jobs at once beside the steady load; the ids of those and of others accepted meanwhile."""
        before = set(self.history.accepted())
        self.load.burst(count)

        def accepted() -> set[str]:
            new = set(self.history.accepted()) - before
            return new if len(new) >= count else set()

        return await eventually(accepted)

    async def in_work(self, count: int) -> bool:
        """Whether the job-servers hold at least so many jobs, by the broker's count."""
        return (await self._created()).unacknowledged >= count

    async def queued(self, count: int) -> bool:
        """Whether at least so many jobs wait in the stream for a job-server."""
        return (await self._created()).pending >= count

    async def _created(self) -> Consumer:
        [created] = [consumer for consumer in await facts.consumers(self.stack) if "created" in consumer.name]
        return created

    async def leases(self) -> set[str]:
        """The owners of the leases that are stored."""
        # Beside the leases stands the claim of who sweeps.
        return {lease["_id"] async for lease in self.jobs_db.hasty_api.leases.find({"renewed_at": {"$exists": True}})}

    async def ended(self, job_ids: Collection[str]) -> bool:
        """Whether each of these jobs has its outcome, by the api-server's database."""
        ended = {"_id": {"$in": list(job_ids)}, "status": {"$in": list(TERMINAL)}}
        return await self.jobs_db.hasty_api.jobs.count_documents(ended) == len(job_ids)

    async def at_rest(self) -> bool:
        """Whether every job has its outcome and the broker owes nothing."""
        unfinished = {"status": {"$nin": list(TERMINAL)}}
        if await self.jobs_db.hasty_api.jobs.count_documents(unfinished):
            return False
        return not any(owed.pending or owed.unacknowledged for owed in await facts.consumers(self.stack))

    async def audit(self, cooldown_s: float) -> Facts:
        """End the load, wait for rest and judge every request and every job by the invariants; what is stored."""
        self.stop_load.set()
        await self.loading
        await eventually(self.at_rest, within_s=ENDS_WITHIN_S, every_s=0.2)
        found = Facts(
            jobs=await facts.jobs(self.jobs_db),
            outcomes=await facts.outcomes(self.outcomes_db),
            dead_letters=[
                *await facts.dead_letters(self.jobs_db, "hasty_api"),
                *await facts.dead_letters(self.outcomes_db, "hasty_job"),
            ],
            consumers=await facts.consumers(self.stack),
            processes=[
                Process(name, exits=tuple(self.child(name).exits), troubles=tuple(facts.troubles(self.child(name).log)))
                for name in SERVICES
            ],
        )
        assert judge(self.history, found, Rules(cooldown_s)) == []
        return found


def reopened(found: Facts, switched: float) -> int:
    """How many objects got a job before and one after this moment, by the job documents."""
    of_object: dict[str, list[float]] = {}
    for job in sorted(found.jobs, key=lambda job: job.run):
        of_object.setdefault(job.object_id, []).append(job.created_at)
    return sum(
        any(earlier < switched < later for earlier, later in pairwise(created)) for created in of_object.values()
    )


@asynccontextmanager
async def under_load(folder: Path, versions: Versions, first: Version, *, cooldown_s: float) -> AsyncIterator[System]:
    """Two api-servers and two job-servers in version `first`, and callers who post until the block is left."""
    for name in SERVICES:
        versions.choose(first, name)
    config = StackConfig(
        folder=folder,
        api_servers=2,
        job_servers=2,
        environment={
            "HASTY_ACK_WAIT_S": "3",
            "HASTY_COOLDOWN_S": str(cooldown_s),
            "HASTY_JOB_SLEEP_MIN_S": "0.3",
            "HASTY_JOB_SLEEP_MAX_S": "1",
            # Some jobs time out: both endings must pass between the versions.
            "HASTY_JOB_TIMEOUT_S": "0.9",
            "HASTY_SHUTDOWN_GRACE_S": "2",
        },
        commands=versions.commands,
        environment_of=versions.environment_of,
        restart_pause_s=0.1,
    )
    async with (
        Stack.running(config) as stack,
        facts.database(stack, "api-mongo") as jobs_db,
        facts.database(stack, "job-mongo") as outcomes_db,
    ):
        host, _, port = stack.url.removeprefix("http://").rpartition(":")
        callers = Callers(host, int(port), connect_within_s=4, answer_within_s=12)
        flight = Flight(jobs_db.hasty_api.jobs)
        load = Load(callers, History(), flight, random.Random(1), RATE, "upgrade", looks_per_s=5)
        stop_load = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(load.run(stop_load), name="load")
            following = tasks.create_task(flight.follow(), name="flight")
            try:
                yield System(stack, versions, load, jobs_db, outcomes_db, loading, stop_load)
            finally:
                stop_load.set()
                following.cancel()
