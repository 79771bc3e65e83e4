"""Pages of lists with a million stored jobs, beside one stored job."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import httpx
from pymongo import AsyncMongoClient

from benchmarks.figures import Findings, compared
from benchmarks.growth import insert, ms, quiet
from benchmarks.plan import Plan
from benchmarks.systems import System, hasty
from hasty.jobs import place_of

REQUESTS = 40
DAYS = 29
"""Over so many days the stored jobs were created, evenly."""

FAILED_EVERY = 1_000
KEYS = 1_000
"""So many keys take turns."""

BATCH = 1_000
LABELS = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
DEAD_LETTERS = 10_000
Document = dict[str, Any]


async def lists(plan: Plan) -> Findings:
    """The median of each page, in turn with `GET /v1/jobs/{id}` of any job."""
    count = plan.stored_jobs
    async with hasty() as full:
        now = datetime.now(UTC)
        await post_one(full)  # which makes the indexes
        await store(full, count, now)
        await quiet(full)
        following = await _following(
            full, f"{round(created_at(count // 2, count, now).timestamp() * 1000)}-{job_id(count // 2)}"
        )
        pages = {
            "newest": "",
            "newest 100": "?limit=100",
            "in the middle": f"?after={following}",
            "since a day": f"?since={(now - timedelta(days=2)):%Y-%m-%dT%H:%M:%SZ}",
            "of a kind": "?kind=greet",
            "with a label": "?label=c",
            "of a key": "?kind=greet&key=key-7",
            "of a batch": "?batch=" + batch_id(3),
            "finished": "?status=finished",
            "failed, one of a thousand": "?status=failed",
        }
        figures = []
        for name, query in pages.items():
            pairs = [await _in_turn(full, f"/v1/jobs{query}", count) for _ in range(plan.runs)]
            figures.append(compared(f"page: {name}", "ms", pairs, target="3 or less", note=f"{count:,} stored jobs"))
        for path in ("/v1/dead-letters", "/v1/overview", f"/v1/batches/{batch_id(3)}"):
            pairs = [await _in_turn(full, path, count) for _ in range(plan.runs)]
            figures.append(compared(f"GET {path.split('-7000')[0]}", "ms", pairs, target="3 or less"))
    return Findings(figures)


async def _following(system: System, cursor: str) -> str:
    """The cursor of the page after the one at `cursor`, as whoever reads on has it."""
    async with httpx.AsyncClient(base_url=system.stack.url, timeout=30) as http:
        answer = await http.get("/v1/jobs", params={"after": cursor})
    return str(answer.json()["next"])


async def post_one(system: System) -> None:
    """Make a first job."""
    await system.post(1)
    await system.drained()


async def store(system: System, count: int, now: datetime) -> None:
    """Put ended jobs of a kind into the api-server's database, with their batches, and dead letters."""
    async with AsyncMongoClient[Document](system.stack.children["api-mongo"].url) as api:
        database = api["hasty_api"]
        await insert(database["jobs"], _jobs(count, now))
        await insert(database["batches"], _batches(count, now))
        await insert(database["dead_letters"], _letters(now))


def job_id(number: int) -> str:
    """The id of a stored job."""
    return f"{number:08x}-0000-7000-8000-000000000000"


def batch_id(number: int) -> str:
    """The id of a batch."""
    return f"{number:08x}-0000-7000-9000-000000000000"


def created_at(number: int, count: int, now: datetime) -> datetime:
    """When a stored job was created."""
    return now - timedelta(days=DAYS) * (count - number) / count


def _jobs(count: int, now: datetime) -> Iterator[Document]:
    for number in range(count):
        created = created_at(number, count, now)
        report = {"worker": "w-1", "version": "v1", "started_at": created.timestamp(), "ended_at": created.timestamp()}
        yield {
            "_id": job_id(number),
            "object_id": place_of("greet", f"key-{number % KEYS}", ""),
            "run": number // KEYS + 1,
            "status": "finished" if number % FAILED_EVERY else "failed",
            "created_at": created,
            "sleep_time_used": 0,
            "dispatches": 1,
            "ended_at": created,
            "turn_number": 1,
            "batch": batch_id(number // BATCH),
            "task": {
                "kind": "greet",
                "input": '{"name":"Ada"}',
                "attempt": 1,
                "attempts": None,
                "labels": [LABELS[number % len(LABELS)]],
                "versions": ["v1"],
            },
            "report": {**report, "run": 1, "output": '"hello Ada"', "delay_s": 0.0, "counts": True},
        }


def _batches(count: int, now: datetime) -> Iterator[Document]:
    for number in range(count // BATCH):
        first = number * BATCH
        ids = [job_id(member) for member in range(first, first + BATCH)]
        yield {"_id": batch_id(number), "job_ids": ids, "jobs": BATCH, "at": created_at(first, count, now)}


def _letters(now: datetime) -> Iterator[Document]:
    for number in range(DEAD_LETTERS):
        at = now - timedelta(days=DAYS) * number / DEAD_LETTERS
        yield {"_id": f"letter {number}", "subject": "job:finished", "data": b"{}", "reason": "no JSON", "at": at}


async def _in_turn(system: System, path: str, count: int) -> tuple[float, float]:
    """One job and the page, in turn; the median answers in milliseconds."""
    numbers: Sequence[int] = random.sample(range(count), REQUESTS)
    async with httpx.AsyncClient(base_url=system.stack.url, timeout=30) as http:
        took = [
            (await ms(http.get(f"/v1/jobs/{job_id(number)}"), 200), await ms(http.get(path), 200)) for number in numbers
        ]
    return median(one for one, _ in took), median(page for _, page in took)
