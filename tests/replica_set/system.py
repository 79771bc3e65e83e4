"""The whole system on two simulated replica sets, one for each service, under load, and judged at rest."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pymongo import AsyncMongoClient

from hasty.server.local_stack import Stack, StackConfig
from tests.chaos import facts
from tests.chaos.callers import Callers
from tests.chaos.checker import Facts, Rules, Violation, judge
from tests.chaos.history import History
from tests.chaos.load import Flight, Load
from tests.eventually import eventually
from tests.replica_set.copying import client
from tests.replica_set.replica_set import CLOCKS_APART, ReplicaSet

RATE_PER_S: Final = 80
WARM_UP_S: Final = 1.5
AFTERWARDS_S: Final = 1.0
WITHIN_S: Final = 90
"""For an election, with what comes before it."""

TRY_FOR_S: Final = 3
REST_S: Final = 1.5
"""Between two tries, for the other member to catch up."""
OVERDUE_S: Final = 4
RESTS_WITHIN_S: Final = 8 * OVERDUE_S + 30
"""The longest wait of the rescue, and some more."""

ENVIRONMENT: Final = {
    "HASTY_ACK_WAIT_S": "3",
    "HASTY_OVERDUE_S": str(OVERDUE_S),
    "HASTY_JOB_SLEEP_MIN_S": "0.05",
    "HASTY_JOB_SLEEP_MAX_S": "0.3",
}
RULES: Final = Rules(cooldown_s=300)


@dataclass
class System:
    """A running stack, the databases of its services, and what callers asked it."""

    stack: Stack
    api: ReplicaSet
    job: ReplicaSet
    history: History

    @property
    def accepted(self) -> int:
        """How many jobs were answered 201."""
        return len(self.history.accepted())

    @property
    def rolled_back(self) -> int:
        """How many writes of either database were acknowledged by a primary and lost in an election."""
        return self.api.rolled_back + self.job.rolled_back

    async def elect(self, members: ReplicaSet, election: Callable[[], Awaitable[None]], accepted: int = 0) -> None:
        """Hold an election when the primary alone has some writes, and so many more jobs were accepted meanwhile.

        With a write concern of a majority, none is.
        """
        await eventually(lambda: self._elected(members, election, accepted), within_s=WITHIN_S, every_s=REST_S)

    async def _elected(self, members: ReplicaSet, election: Callable[[], Awaitable[None]], accepted: int) -> bool:
        """Try once: with w=1, an object that is posted again while nothing is replicated holds up all others.

        Its first job is there for the insert, and not for the look-up, which sees what a majority has.
        """
        before = self.accepted
        with members.lagging():
            for _ in range(TRY_FOR_S * 20):
                await asyncio.sleep(0.05)
                if self.accepted >= before + accepted and members.unreplicated > accepted:
                    await election()
                    return True
        return False

    async def under_load(self, *faults: Callable[[], Awaitable[None]]) -> None:
        """Let the faults happen one after the other while callers post jobs and look at them."""
        host, _, port = self.stack.url.removeprefix("http://").rpartition(":")
        callers = Callers(host, int(port), connect_within_s=4, answer_within_s=12)
        async with self._primary(self.api) as api:
            load = Load(callers, self.history, Flight(api.hasty_api.jobs), random.Random(1), RATE_PER_S, "failover")
            stop = asyncio.Event()
            loading = asyncio.create_task(load.run(stop), name="load")
            try:
                for fault in faults:
                    await asyncio.sleep(WARM_UP_S)
                    await fault()
                await asyncio.sleep(AFTERWARDS_S)
            finally:
                stop.set()
                await loading

    async def violations(self) -> list[Violation]:
        """Wait until nothing is left to do, and judge by both databases what callers were promised."""
        await eventually(self._rests, within_s=RESTS_WITHIN_S, every_s=0.2)
        async with self._primary(self.api) as api, self._primary(self.job) as job:
            found = Facts(
                jobs=await facts.jobs(api),
                outcomes=await facts.outcomes(job),
                dead_letters=[*await facts.dead_letters(api, "hasty_api"), *await facts.dead_letters(job, "hasty_job")],
                consumers=await facts.consumers(self.stack),
            )
        return judge(self.history, found, RULES)

    async def _rests(self) -> bool:
        async with self._primary(self.api) as api:
            processing = await api.hasty_api.jobs.count_documents({"status": "processing"})
        assert processing == 0, f"{processing} jobs are still processing"
        consumers = await facts.consumers(self.stack)
        return all(not consumer.pending and not consumer.unacknowledged for consumer in consumers)

    @staticmethod
    def _primary(members: ReplicaSet) -> AsyncMongoClient[dict[str, Any]]:
        assert members.primary is not None
        return client(members.primary.database.address)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    options: str = "",
    apart: timedelta = CLOCKS_APART,
) -> AsyncIterator[System]:
    """Start it; `options` are appended to the services' database URLs, such as `&w=1`.

    The clock of the members that are elected first is ahead by `apart`.
    """
    async with (
        ReplicaSet.running(folder / "api", apart=apart) as api,
        ReplicaSet.running(folder / "job", apart=apart) as job,
    ):
        config = StackConfig(
            folder=folder / "stack",
            api_mongo_url=api.url("hasty_api", options),
            job_mongo_url=job.url("hasty_job", options),
            environment={**ENVIRONMENT, **environment},
        )
        async with Stack.running(config) as stack:
            yield System(stack, api, job, History())
