"""How soon work begins: from the POST's first byte to the job-server's first step, at 20 jobs a second."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from statistics import median, quantiles
from typing import Any

import httpx
import nats
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from nats.js import JetStreamContext
from pymongo import WriteConcern

from benchmarks.audit import audit
from benchmarks.figures import Figure, Findings, compared
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.systems import NO_SLEEP, System, hasty
from benchmarks.timed_job_server import PORT_VARIABLE

PER_S = 20
SUBJECT = "bench.round-trip"
MESSAGE = b"x" * 200  # as long as the event of a job
PULL_ARRIVES_S = 0.01


async def latency(plan: Plan) -> Findings:
    """p50 and p99 of the way to work begun, over one journaled insert and a bare publish-to-pull round trip."""
    async with begun() as board:
        environment = {**NO_SLEEP, PORT_VARIABLE: str(board.port)}
        worker = {"job-server": [sys.executable, "-m", "benchmarks.timed_job_server"]}
        async with hasty(environment=environment, commands=worker) as full, bare(full) as trip:
            await _paced(PER_S, trip)
            await dispatched(full, board, PER_S)
            runs = [
                (await _paced(plan.latency_samples, trip), await dispatched(full, board, plan.latency_samples))
                for _ in range(plan.runs)
            ]
            await audit(full)
    trips = [[trip.round_trip_ms for trip in trips] for trips, _ in runs]
    eager = [[trip.eager_ms for trip in trips] for trips, _ in runs]
    ways = [way for _, way in runs]
    note = _note([trip for trips, _ in runs for trip in trips])
    return Findings(
        [
            _at(50, "dispatch p50 over a round trip", trips, ways, target="1.0, then 0.8", note=note),
            _at(99, "dispatch p99 over a round trip", trips, ways),
            _at(50, "dispatch p50 over a waiting pull", eager, ways, note="the least: the pull is there before"),
        ]
    )


def percentile(samples: Iterable[float], at: int) -> float:
    """The value that `at` percent of the samples do not exceed."""
    return quantiles(samples, n=100, method="inclusive")[at - 1]


def _at(
    at: int, row: str, beside: list[list[float]], ways: list[list[float]], *, target: str = "", note: str = ""
) -> Figure:
    pairs = [(percentile(bare, at), percentile(way, at)) for bare, way in zip(beside, ways, strict=True)]
    return compared(row, "ms", pairs, target=target, note=note)


def _note(trips: list[Trip]) -> str:
    parts = (median(part) for part in zip(*((t.insert_ms, t.publish_ms, t.pull_ms) for t in trips), strict=True))
    return "insert {:.2f}, publish {:.2f}, pull {:.2f} ms".format(*parts)


@dataclass(frozen=True)
class Trip:
    """What the least that could be done takes: the job on disk, then one message through JetStream."""

    insert_ms: float
    publish_ms: float
    """Until the broker's acknowledgement."""
    pull_ms: float
    """From the request for the message, which is there already, to the message."""
    waiting_ms: float
    """From a publish to the message at a pull that was there before it."""

    @property
    def round_trip_ms(self) -> float:
        """Insert, publish, pull, one after the other."""
        return self.insert_ms + self.publish_ms + self.pull_ms

    @property
    def eager_ms(self) -> float:
        """Insert, then publish to a pull that waits."""
        return self.insert_ms + self.waiting_ms


class Board(asyncio.DatagramProtocol):
    """Where the timed job-server says when it began which job."""

    def __init__(self) -> None:
        self.at_ns: dict[str, int] = {}
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn the port."""
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, _address: tuple[str, int]) -> None:
        """One job began; a second delivery of it does not count."""
        object_id, _, at_ns = data.decode().rpartition(" ")
        self.at_ns.setdefault(object_id, int(at_ns))


@asynccontextmanager
async def begun() -> AsyncIterator[Board]:
    """A board that listens."""
    transport, board = await asyncio.get_running_loop().create_datagram_endpoint(Board, local_addr=("127.0.0.1", 0))
    try:
        yield board
    finally:
        transport.close()


async def dispatched(system: System, board: Board, samples: int) -> list[float]:
    """Post `samples` jobs at 20 a second; milliseconds from each one's first byte sent to its work begun."""
    prefix = token_hex(6)
    sent_ns: dict[str, int] = {}

    async with httpx.AsyncClient(base_url=system.stack.url) as http:

        async def post(object_id: str) -> None:
            async def trace(event: str, _info: dict[str, Any]) -> None:
                if event == "http11.send_request_headers.started":
                    sent_ns[object_id] = time.monotonic_ns()

            answer = await http.post("/", json={"object_id": object_id}, extensions={"trace": trace})
            if answer.status_code != httpx.codes.CREATED:
                raise BenchmarkError(f"a job was answered {answer.status_code}: {answer.text}")

        async with asyncio.TaskGroup() as posts:
            async for number in paced(samples):
                posts.create_task(post(f"{prefix}-{number}"))
    system.loads.append(Load(prefix, connections=0, accepted=samples, seconds=samples / PER_S, p50_ms=0, p99_ms=0))
    await system.drained()  # so every begin was told long ago
    return [(board.at_ns[object_id] - at_ns) / 1e6 for object_id, at_ns in sent_ns.items()]


async def paced(samples: int) -> AsyncIterator[int]:
    """Count at 20 a second, with enough chance in it to meet every phase of whatever ticks inside."""
    began = time.monotonic()
    for number in range(samples):
        yield number
        wait = began + (number + 1 + random.uniform(-0.3, 0.3)) / PER_S - time.monotonic()
        await asyncio.sleep(max(wait, 0))


class Bare:
    """Does the least, with the libraries that Hasty uses."""

    def __init__(
        self,
        jobs: AsyncIOMotorCollection[dict[str, Any]],
        jetstream: JetStreamContext,
        pull: JetStreamContext.PullSubscription,
    ) -> None:
        self._jobs = jobs
        self._jetstream = jetstream
        self._pull = pull

    async def __call__(self) -> Trip:
        """Do it once."""
        insert_ms = await _ms(self._jobs.insert_one({"_id": token_hex(16), "status": "processing"}))
        publish_ms = await _ms(self._jetstream.publish(SUBJECT, MESSAGE))
        pull_ms = await _ms(self._take())

        waiting = asyncio.create_task(self._take())
        await asyncio.sleep(PULL_ARRIVES_S)
        publishing = asyncio.create_task(self._jetstream.publish(SUBJECT, MESSAGE))
        waiting_ms = await _ms(waiting)
        await publishing
        return Trip(insert_ms, publish_ms, pull_ms, waiting_ms)

    async def _take(self) -> None:
        [message] = await self._pull.fetch(1, timeout=5)
        await message.ack()  # sent, not waited for


async def _ms(doing: Awaitable[object]) -> float:
    began = time.perf_counter()
    await doing
    return (time.perf_counter() - began) * 1e3


@asynccontextmanager
async def bare(system: System) -> AsyncIterator[Bare]:
    """The bare way, on the same broker and database as Hasty, in a stream and a collection of its own."""
    mongo: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(system.stack.children["api-mongo"].url)
    publisher = await nats.connect(system.nats_url)
    puller = await nats.connect(system.nats_url)
    try:
        # In the service's database, which is all that its login may write to.
        jobs = mongo.get_default_database().get_collection("bench", write_concern=WriteConcern(w=1, j=True))
        await publisher.jetstream().add_stream(name="BENCH", subjects=[SUBJECT])
        pull = await puller.jetstream().pull_subscribe(SUBJECT, durable="bench")
        yield Bare(jobs, publisher.jetstream(), pull)
    finally:
        await publisher.close()
        await puller.close()
        mongo.close()


async def _paced(samples: int, trip: Bare) -> list[Trip]:
    return [await trip() async for _ in paced(samples)]
