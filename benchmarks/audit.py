"""The check of the benchmark's own jobs: a figure counts only when every accepted job has exactly one outcome."""

import asyncio
import time
from typing import Any

import nats
from pymongo import AsyncMongoClient

from benchmarks.load import BenchmarkError
from benchmarks.systems import System
from hasty.server.messaging.topology import DURABLES, STREAM

SETTLE_S = 60  # marks and acknowledgements may be written a little after the outcome
POLL_S = 0.5


async def audit(system: System, *, stored_before: int = 0) -> int:
    """Judge the databases and the stream at rest; the number of jobs looked at.

    Raises:
        BenchmarkError: a job is missing, unfinished or has outcomes that disagree, or something is pending or due.
    """
    accepted = sum(load.accepted for load in system.loads) + stored_before
    in_doubt = sum(load.connections for load in system.loads)  # sent, but wrk ended before it read the answer
    deadline = time.monotonic() + SETTLE_S
    while faults := await _faults(system, accepted, in_doubt):
        if time.monotonic() > deadline:
            raise BenchmarkError("the audit failed: " + "; ".join(faults))
        await asyncio.sleep(POLL_S)
    return accepted


async def _faults(system: System, accepted: int, in_doubt: int) -> list[str]:
    children = system.stack.children
    async with (
        AsyncMongoClient[dict[str, Any]](children["api-mongo"].url) as api,
        AsyncMongoClient[dict[str, Any]](children["job-mongo"].url) as job,
    ):
        jobs = api["hasty_api"]["jobs"]
        due = await jobs.count_documents({"dispatch_due": {"$exists": True}})
        unfinished = await jobs.count_documents({"status": "processing"})
        if due or unfinished:  # still on the way: comparing all documents can wait
            return [f"{unfinished} jobs are unfinished and {due} are due for dispatch"]
        ends = {job["_id"]: job["status"] async for job in jobs.find({}, {"status": 1})}
        recorded = {o["_id"]: o["status"] async for o in job["hasty_job"]["outcomes"].find({}, {"status": 1})}
    faults = []
    if not accepted <= len(ends) <= accepted + in_doubt:
        faults.append(f"{accepted} jobs were accepted (and up to {in_doubt} more in doubt), {len(ends)} are stored")
    if ends != recorded:
        different = [job_id for job_id in ends.keys() | recorded.keys() if ends.get(job_id) != recorded.get(job_id)]
        faults.append(f"the two databases disagree about {len(different)} jobs, {different[0]} among them")
    faults += await _pending(system.nats_url)
    return faults


async def _pending(nats_url: str) -> list[str]:
    client = await nats.connect(nats_url)
    try:
        faults = []
        for durable in DURABLES:
            info = await client.jetstream().consumer_info(STREAM, durable.name)
            if info.num_pending or info.num_ack_pending:
                faults.append(
                    f"{durable.name} has {info.num_pending} pending and {info.num_ack_pending} unacknowledged messages"
                )
        return faults
    finally:
        await client.close()
