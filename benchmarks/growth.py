"""Flat growth: with a million stored jobs everything is to be as fast as with none."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from secrets import token_hex
from statistics import median
from typing import Any
from uuid import UUID

import httpx
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from benchmarks.accepting import alternating, loaded, warm_up
from benchmarks.audit import audit
from benchmarks.figures import Findings, compared
from benchmarks.load import BenchmarkError, Load
from benchmarks.plan import Plan
from benchmarks.proc import cpu_s
from benchmarks.systems import NO_SLEEP, System, hasty

RUNS_OF_ONE = 200
ONE = "the one with many runs"
BULK = 1000
REQUESTS = 300
QUIET_CPU_S = 0.1  # in a second
QUIET_TIMEOUT_S = 180
# The object with many runs is posted again and again.
ENVIRONMENT = {**NO_SLEEP, "HASTY_COOLDOWN_S": "0"}
Document = dict[str, Any]


async def growth(plan: Plan) -> Findings:
    """Throughput and latency with the stored jobs, beside a system without."""
    async with hasty(environment=ENVIRONMENT) as empty, hasty(environment=ENVIRONMENT) as full:
        await warm_up(plan, empty, full)  # which also makes the indexes
        await store(full, plan.stored_jobs)
        await quiet(full)
        few = await _some_jobs(empty)
        many = [stored_id(number) for number in random.sample(range(plan.stored_jobs), REQUESTS)]
        again = [ONE] * REQUESTS
        accepts, posts, reads, repeats = [], [], [], []
        for run in range(plan.runs):
            accepts.append(await alternating(run, lambda: _accepts(empty, plan), lambda: _accepts(full, plan)))
            posts.append(await _posts(empty, _new(), full, _new()))
            repeats.append(await _posts(empty, _new(), full, again))
            reads.append(await _reads(empty, few, full, many))
        await audit(empty)
        await audit(full, stored_before=plan.stored_jobs)
    stored = f"with {plan.stored_jobs:,} stored jobs over none"
    return Findings(
        [
            compared(f"accept {stored}", "jobs/s", accepts, target="0.90 or more"),
            compared(f"one POST {stored}", "ms", posts, target="1.10 or less"),
            compared(f"one POST of an object with {RUNS_OF_ONE} runs", "ms", repeats, target="1.10 or less"),
            compared(f"one GET {stored}", "ms", reads, target="1.10 or less"),
        ]
    )


async def store(system: System, count: int) -> None:
    """Put finished jobs and their outcomes into both databases, as if they had come in over the last month."""
    children = system.stack.children
    async with (
        AsyncMongoClient[Document](children["api-mongo"].url) as api,
        AsyncMongoClient[Document](children["job-mongo"].url) as job,
    ):
        await asyncio.gather(
            insert(api["hasty_api"]["jobs"], _jobs(count)), insert(job["hasty_job"]["outcomes"], _outcomes(count))
        )


async def quiet(system: System) -> None:
    """Wait until the databases have written back what they were given: that is no part of what follows."""
    pids = system.pids("api-mongo", "job-mongo")
    async with asyncio.timeout(QUIET_TIMEOUT_S):
        while True:
            before = sum(cpu_s(pid) for pid in pids.values())
            await asyncio.sleep(1)
            if sum(cpu_s(pid) for pid in pids.values()) - before < QUIET_CPU_S:
                return


def stored_id(number: int) -> str:
    """The id of a stored job: spread over the index as random ids are, and known again by its number."""
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128, version=4))


def _jobs(count: int) -> Iterator[Document]:
    now = datetime.now(UTC)
    for number in range(count):
        of_one = number < RUNS_OF_ONE
        created_at = now - timedelta(days=30) + timedelta(days=29) * number / count
        yield {
            "_id": stored_id(number),
            "object_id": ONE if of_one else f"stored-{number}",
            "run": number + 1 if of_one else 1,
            "status": "finished",
            "created_at": created_at,
            "sleep_time_used": 30,
            "dispatches": 1,
            "ended_at": created_at + timedelta(seconds=30),
        }


def _outcomes(count: int) -> Iterator[Document]:
    for job in _jobs(count):
        yield {
            "_id": job["_id"],
            "object_id": job["object_id"],
            "status": "finished",
            "timestamp": int(job["created_at"].timestamp()),
            "sleep_time_used": 30,
            "worker": "preloaded",
            "attempt": 1,
            "recorded_at": job["ended_at"],
        }


async def insert(collection: AsyncCollection[Document], documents: Iterator[Document]) -> None:
    """Insert documents, many at a time."""
    while bulk := list(islice(documents, BULK)):
        await collection.insert_many(bulk, ordered=False)


async def _accepts(system: System, plan: Plan) -> float:
    load, _ = await loaded(system, plan)
    await system.drained()
    return load.per_s


async def _posts(first: System, one: Sequence[str], second: System, other: Sequence[str]) -> tuple[float, float]:
    """Post jobs for these objects one by one, in turn to each system; the median answers in milliseconds."""

    def post(http: httpx.AsyncClient, object_id: str) -> Awaitable[float]:
        return ms(http.post("/", json={"object_id": object_id}), httpx.codes.CREATED)

    took = await _in_turn(first, one, second, other, post)
    for system in (first, second):
        system.loads.append(Load("", connections=0, accepted=REQUESTS, seconds=1, p50_ms=0, p99_ms=0))
        await system.drained()
    return took


async def _reads(first: System, one: Sequence[str], second: System, other: Sequence[str]) -> tuple[float, float]:
    """Read these jobs one by one, in turn from each system; the median answers in milliseconds."""

    def read(http: httpx.AsyncClient, job_id: str) -> Awaitable[float]:
        return ms(http.get(f"/{job_id}"), httpx.codes.OK)

    return await _in_turn(first, one, second, other, read)


async def _in_turn(
    first: System,
    one: Sequence[str],
    second: System,
    other: Sequence[str],
    ask: Callable[[httpx.AsyncClient, str], Awaitable[float]],
) -> tuple[float, float]:
    async with (
        httpx.AsyncClient(base_url=first.stack.url) as of_first,
        httpx.AsyncClient(base_url=second.stack.url) as of_second,
    ):
        took = [(await ask(of_first, a), await ask(of_second, b)) for a, b in zip(one, other, strict=True)]
    return median(a for a, _ in took), median(b for _, b in took)


async def ms(asking: Awaitable[httpx.Response], expected: int) -> float:
    """How many milliseconds an answer takes, which must have this status."""
    began = time.perf_counter()
    answer = await asking
    took_ms = (time.perf_counter() - began) * 1e3
    if answer.status_code != expected:
        raise BenchmarkError(f"{answer.request.method} was answered {answer.status_code}: {answer.text}")
    return took_ms


def _new() -> list[str]:
    return [token_hex(8) for _ in range(REQUESTS)]


async def _some_jobs(system: System) -> list[str]:
    async with AsyncMongoClient[Document](system.stack.children["api-mongo"].url) as api:
        return [job["_id"] async for job in api["hasty_api"]["jobs"].find({}, {"_id": 1}, limit=REQUESTS)]
