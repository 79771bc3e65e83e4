"""`python -m benchmarks.accounts`: what it costs the broker that each service has an account of its own.

The containers' broker runs twice: as it is, and with the same users and rights in one account. Both carry the same
jobs in turn, in batches as under load: a new job is published, pulled and acknowledged, and so is its outcome.
"""

import asyncio
import shutil
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from benchmarks.load import BenchmarkError
from benchmarks.proc import Neighbours, cpu_s
from hasty.server.local_stack import Child
from hasty.server.messaging.events import Outgoing, Subject
from hasty.server.messaging.topology import JOB_CREATED, JOB_FINISHED, Durable
from tests.real_wire import RealWire
from tests.servers import container_nats_server

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 8
JOBS = 6400
BATCH = 64
BODY = b'{"subject":"job:created","job":{' + b"x" * 200 + b"}}"
ACK_WAIT_S = 30.0
USERS = ("api", "setup", "job")


@dataclass(frozen=True)
class Broker:
    """A broker and its services' connections."""

    server: Child
    api: RealWire
    job: RealWire

    async def carry(self, jobs: int) -> float:
        """Carry so many jobs and their outcomes; microseconds of the broker's CPU for each of the messages."""
        before = self._cpu_s()
        await asyncio.gather(
            _publish(self.api, Subject.CREATED, jobs),
            _take(self.job, JOB_CREATED, jobs),
            _publish(self.job, Subject.FINISHED, jobs),
            _take(self.api, JOB_FINISHED, jobs),
        )
        return (self._cpu_s() - before) * 1e6 / (2 * jobs)

    def _cpu_s(self) -> float:
        if self.server.pid is None:
            raise BenchmarkError("the broker has died: see its log")
        return cpu_s(self.server.pid)


async def _publish(wire: RealWire, subject: Subject, count: int) -> None:
    prefix = token_hex(6)
    for start in range(0, count, BATCH):
        messages = [Outgoing(subject, BODY, f"{prefix}-{start + n}") for n in range(BATCH)]
        if not all(await wire.publish(messages)):
            raise BenchmarkError("the broker did not confirm a batch")


async def _take(wire: RealWire, durable: Durable, count: int) -> None:
    left = count
    consumer = wire.consumer(durable, free_slots=lambda _: min(left, 512))
    async for deliveries in consumer.batches():
        if not await wire.ack(deliveries):
            raise BenchmarkError("the broker did not confirm acknowledgements")
        left -= len(deliveries)
        if left <= 0:
            consumer.stop()


def in_one_account(config: str) -> str:
    """The containers' configuration without accounts: what every user may do stays."""
    shared, _, _ = config.partition("\naccounts {")
    users = [
        f"{{user: ${previous}{user}_user, password: ${previous}{user}_password,"
        f" permissions: {{publish: ${user}_publish, subscribe: ${previous}{user}_inbox}}}}"
        for user in USERS
        for previous in ("", "previous_")
    ]
    return "\n".join([shared, "authorization {", "users: [", *users, "]", "}", ""])


@asynccontextmanager
async def broker(folder: Path, *, accounts: bool) -> AsyncIterator[Broker]:
    """A broker of its own, ready to carry jobs."""
    async with (
        container_nats_server(folder, str if accounts else in_one_account) as (server, urls),
        AsyncExitStack() as opened,
    ):
        wires = [await opened.enter_async_context(RealWire.opened(urls[user], name=user)) for user in USERS]
        for wire in wires:
            await wire.until_connected()
        api, setup, job = wires
        await setup.ensure(ACK_WAIT_S)
        yield Broker(server, api, job)


async def main() -> None:
    """Measure and print."""
    folder = ROOT / ".hasty" / f"bench-accounts-{token_hex(3)}"
    costs: dict[str, list[float]] = {"one account": [], "an account each": []}
    try:
        async with broker(folder / "one", accounts=False) as one, broker(folder / "each", accounts=True) as each:
            brokers = dict(zip(costs, (one, each), strict=True))
            for measured in brokers.values():
                await measured.carry(JOBS // 4)
            neighbours = Neighbours()
            for number in range(ROUNDS):
                for name in sorted(brokers, reverse=bool(number % 2)):
                    costs[name].append(await brokers[name].carry(JOBS))
            others = neighbours.share()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"microseconds of nats-server's CPU for a message, {ROUNDS} rounds of {JOBS} jobs with their outcomes:")
    for name, found in costs.items():
        print(f"  {name:16} median {statistics.median(found):5.1f}, from {min(found):.1f} to {max(found):.1f}")
    more = [each - one for one, each in zip(*costs.values(), strict=True)]
    print(f"  difference       median {statistics.median(more):5.1f}, from {min(more):.1f} to {max(more):.1f}")
    print(f"others took {others:.0%} of the machine meanwhile")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
