"""How soon work begins: from the POST's first byte to the job-server's first step, at 20 jobs a second."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from statistics import median, quantiles
from typing import Any

import httpx
import nats
from motor.motor_asyncio import AsyncIOMotorClient
from nats.js import JetStreamContext
from pymongo import WriteConcern

from benchmarks.audit import audit
from benchmarks.figures import Figure, Findings, compared
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.systems import NO_SLEEP, System, hasty
from benchmarks.timed_job_server import PORT_VARIABLE

PER_S = 20
LAST_BEGUN_TIMEOUT_S = 30
SUBJECT = "bench.round-trip"


async def latency(plan: Plan) -> Findings:
    """p50 and p99 of the way to work begun, over one journaled insert and a bare publish-to-pull round trip."""
    async with begun() as board:
        environment = {**NO_SLEEP, PORT_VARIABLE: str(board.port)}
        worker = {"job-server": [sys.executable, "-m", "benchmarks.timed_job_server"]}
        async with hasty(environment=environment, commands=worker) as full, bare(full) as trip:
            await _paced(PER_S, trip)
            await dispatched(full, board, PER_S)
            runs = []
            for _ in range(plan.runs):
                runs.append((await _paced(plan.latency_samples, trip), await dispatched(full, board, plan.latency_samples)))
            await audit(full)
    figures = []
    for name, at, target in (("p50", 50, "1.0, then 0.8"), ("p99", 99, "")):
        for way, note in ((Trip.whole_s, "publish, acknowledged, then pull"), (Trip.eager_s, "")):
            pairs = [(percentile([trip_s(trip) for trip in trips], at), percentile(ways, at)) for trips, ways in runs]
            figures.append(compared(f"dispatch latency {name}", "ms", pairs, target=target, note=_parts(runs[0][0], at)))
    return Findings(figures)


def percentile(samples: list[float], at: int) -> float:
    """The value that `at` percent of the samples do not exceed."""
    return quantiles(samples, n=100, method="inclusive")[at - 1]


def _parts(trips: list[tuple[float, float]], at: int) -> str:
    insert, trip = (percentile(list(part), at) for part in zip(*trips, strict=True))
    return f"beside it: insert {insert:.2f} ms, publish to pull {trip:.2f} ms"


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
    async with asyncio.timeout(LAST_BEGUN_TIMEOUT_S):
        while not sent_ns.keys() <= board.at_ns.keys():
            await asyncio.sleep(0.05)
    return [(board.at_ns[object_id] - at_ns) / 1e6 for object_id, at_ns in sent_ns.items()]


async def paced(samples: int) -> AsyncIterator[int]:
    """Count at 20 a second, with enough chance in it to meet every phase of whatever ticks inside."""
    began = time.monotonic()
    for number in range(samples):
        yield number
        wait = began + (number + 1 + random.uniform(-0.3, 0.3)) / PER_S - time.monotonic()
        await asyncio.sleep(max(wait, 0))


class Bare:
    """The least that could be done: the job on disk, then one message through JetStream to a waiting consumer."""

    def __init__(self, jobs: Any, jetstream: JetStreamContext, pull: JetStreamContext.PullSubscription) -> None:
        self._jobs = jobs
        self._jetstream = jetstream
        self._pull = pull

    async def __call__(self) -> tuple[float, float]:
        """Do it once: milliseconds of the insert, and of the way from publish to pull."""
        waiting = asyncio.create_task(self._pull.fetch(1, timeout=5))
        await asyncio.sleep(0.01)  # the request is at the server before anything is published
        began = time.perf_counter()
        await self._jobs.insert_one({"_id": token_hex(16), "object_id": token_hex(8), "status": "processing"})
        inserted = time.perf_counter()
        publishing = asyncio.create_task(self._jetstream.publish(SUBJECT, b"x" * 200))
        [message] = await waiting
        pulled = time.perf_counter()
        await publishing
        await message.ack()
        return (inserted - began) * 1e3, (pulled - inserted) * 1e3


@asynccontextmanager
async def bare(system: System) -> AsyncIterator[Bare]:
    """The bare way, on the same broker and database as Hasty, in a stream and a collection of its own."""
    children = system.stack.children
    mongo: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(f"mongodb://{children['api-mongo'].address}/")
    publisher = await nats.connect(f"nats://{children['nats'].address}")
    puller = await nats.connect(f"nats://{children['nats'].address}")
    try:
        jobs = mongo["bench"].get_collection("jobs", write_concern=WriteConcern(w=1, j=True))
        await publisher.jetstream().add_stream(name="BENCH", subjects=[SUBJECT])
        pull = await puller.jetstream().pull_subscribe(SUBJECT, durable="bench")
        yield Bare(jobs, publisher.jetstream(), pull)
    finally:
        await publisher.close()
        await puller.close()
        mongo.close()


async def _paced(samples: int, trip: Bare) -> list[tuple[float, float]]:
    return [await trip() async for _ in paced(samples)]
