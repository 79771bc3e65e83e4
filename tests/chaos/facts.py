"""Reads the facts at rest: both databases, the broker's consumers, every process's probes, and the logs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from prometheus_client.parser import text_string_to_metric_families
from pymongo import AsyncMongoClient

from hasty.server.local_stack import Child, Stack
from tests.chaos.checker import Consumer, DeadLetterDoc, JobDoc, OutcomeDoc, Vitals
from tests.chaos.evidence import EndingDoc, TaskDoc, ending_doc, task_doc

STREAM: Final = "JOBS"
WORK_STREAM: Final = "WORK"
DURABLES: Final = ("job-created-group", "job-finished-group", "job-cancelled-group")

_WATCHDOG: Final = "event_loop_blocked"
"""Critical, but the exit code that follows it is judged already."""

_FORGOTTEN: Final = re.compile(r"never retrieved|never awaited|was destroyed but it is pending")


def database(stack: Stack, child: str) -> AsyncMongoClient[dict[str, Any]]:
    """Open a client of one of the stack's databases, past every proxy; it gives up soon."""
    return AsyncMongoClient(
        f"{stack.children[child].url}&directConnection=true&retryWrites=false",
        serverSelectionTimeoutMS=4000,
        connectTimeoutMS=1000,
        socketTimeoutMS=4000,
    )


async def connected(stack: Stack) -> Client:
    """Open a client of the stack's broker, past every proxy, which does not come back when it is cut."""
    client = Client()
    await client.connect(stack.children["nats"].url, allow_reconnect=False, connect_timeout=2)
    return client


async def jobs(client: AsyncMongoClient[dict[str, Any]]) -> list[JobDoc]:
    """Read every job of the root kind that the api-server has."""
    return [
        JobDoc(
            job_id=doc["_id"],
            object_id=doc["object_id"],
            run=doc["run"],
            status=doc["status"],
            created_at=doc["created_at"].timestamp(),
            sleep_s=doc.get("sleep_time_used", 0),
            dispatches=doc.get("dispatches", 0),
            due=doc.get("dispatch_due") is not None,
        )
        async for doc in _aware(client, "hasty_api").jobs.find({"task": None})
    ]


async def tasks(client: AsyncMongoClient[dict[str, Any]]) -> list[TaskDoc]:
    """Read every other job the api-server has."""
    return [task_doc(doc) async for doc in _aware(client, "hasty_api").jobs.find({"task": {"$ne": None}})]


async def endings(client: AsyncMongoClient[dict[str, Any]]) -> list[EndingDoc]:
    """Read every ending of a handler's turn that the job-server has."""
    return [ending_doc(doc) async for doc in _aware(client, "hasty_job").outcomes.find({"kind": {"$ne": None}})]


async def outcomes(client: AsyncMongoClient[dict[str, Any]]) -> list[OutcomeDoc]:
    """Read every outcome of a job of the root kind that the job-server has."""
    return [
        OutcomeDoc(
            job_id=doc["_id"],
            object_id=doc["object_id"],
            status=doc["status"],
            sleep_s=doc["sleep_time_used"],
            worker=doc.get("worker", ""),
            attempt=doc.get("attempt", 1),
        )
        async for doc in client.hasty_job.outcomes.find({"kind": None})
    ]


async def dead_letters(client: AsyncMongoClient[dict[str, Any]], name: str) -> list[DeadLetterDoc]:
    """Read a service's dead letters; version 0.1 calls their collection `set_aside`."""
    return [
        DeadLetterDoc(doc["subject"], bytes(doc["data"]), doc["reason"])
        for collection in ("dead_letters", "set_aside")
        async for doc in client[name][collection].find()
    ]


async def consumers(stack: Stack) -> list[Consumer]:
    """Ask the broker what it still owes; consumers that must be there are asked for by name."""
    client = await connected(stack)
    try:
        js = client.jetstream(timeout=3)
        found = [await js.consumer_info(STREAM, durable) for durable in DURABLES]
        for stream in (STREAM, WORK_STREAM):
            with contextlib.suppress(NotFoundError):
                found += [info for info in await js.consumers_info(stream) if info.name not in DURABLES]
        return [Consumer(info.name, info.num_pending or 0, info.num_ack_pending or 0) for info in found]
    finally:
        await client.close()


async def numbers(http: httpx.AsyncClient, child: Child) -> dict[str, float]:
    """Read a service's metrics, each summed over its labels."""
    answer = await http.get(f"http://{child.address}/metrics")
    summed: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            summed[sample.name] = summed.get(sample.name, 0) + sample.value
    return summed


async def vitals(http: httpx.AsyncClient, child: Child) -> Vitals:
    """Read what a service holds right now."""
    found = await numbers(http, child)
    return Vitals(
        rss_mib=found["process_resident_memory_bytes"] / 2**20,
        descriptors=int(found["process_open_fds"]),
        tasks=int(found["hasty_tasks"]),
    )


def troubles(log: Path) -> Iterator[str]:
    """Find in a service's log what nobody foresaw: exceptions, forgotten tasks, dumps, lines of no known form."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if "Traceback" in line or _FORGOTTEN.search(line) or _tells_an_exception(line):
                yield line.strip()[:600]


def _tells_an_exception(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return "exception" in entry or (entry.get("level") == "critical" and entry.get("event") != _WATCHDOG)


def _aware(client: AsyncMongoClient[dict[str, Any]], name: str) -> Any:
    return client.get_database(name, codec_options=client.codec_options.with_options(tz_aware=True))
