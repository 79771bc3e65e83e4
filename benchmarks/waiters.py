"""Thousands who wait at one api-server: the memory of each, and how soon they see an outcome."""

import asyncio
import json
import time
from datetime import datetime
from itertools import islice

import httpx

from benchmarks.figures import Figure, Findings
from benchmarks.load import BenchmarkError
from benchmarks.plan import Plan
from benchmarks.proc import memory
from benchmarks.systems import System, hasty

JOBS_PER_S = 500
STREAMS = 500
OPENED_AT_ONCE = 100
OPENING_S = 0.4
"""What opening so many may take."""

SETTLED_S = 5
KB = 1024  # per MiB
WAIT_S = 60


async def waiters(plan: Plan) -> Findings:
    """Jobs come at 500 a second and all sleep as long, so they end at 500 a second; each is waited for, some watched.

    The api-server itself is asked: what nginx needs for a connection is not measured here. An outcome is seen when its
    last byte is read; it was applied when the job says that it ended.
    """
    jobs, watched = plan.waiters, min(STREAMS, plan.waiters)
    async with hasty(environment=_environment(jobs)) as full:
        api_server = full.stack.children["api-server-1"]
        pid = full.pids("api-server")[api_server.name]
        job_ids = await _posted(full, jobs)
        before_mb = memory(pid).rss_mb
        waiting = await _opened([Waiter(api_server.address, job_id) for job_id in job_ids])
        waiting_mb = memory(pid).rss_mb
        watching = await _opened([Watcher(api_server.address, job_id) for job_id in job_ids[:watched]])
        await asyncio.sleep(SETTLED_S)
        both_mb = memory(pid).rss_mb
        delays_ms = sorted(delay for delay in await asyncio.gather(*waiting) if delay is not None)
        await asyncio.gather(*watching)
    note = f"{before_mb:.0f} MB before, {waiting_mb:.0f} MB waiting, {both_mb:.0f} MB with the streams"
    of_waiter, of_stream = (waiting_mb - before_mb) * KB / jobs, (both_mb - waiting_mb) * KB / watched
    return Findings(
        [
            Figure(f"memory of one of {jobs:,} long-polls", "KB", of_waiter, target="20"),
            Figure(f"memory of one of {watched} streams beside them", "KB", of_stream, target="20", note=note),
            *_seen(delays_ms),
        ]
    )


def _seen(delays_ms: list[float]) -> list[Figure]:
    """How soon outcomes were seen."""
    if not delays_ms:
        raise BenchmarkError("every job had ended before it was waited for: the machine is too busy")
    note = f"{len(delays_ms):,} jobs, which ended while they were waited for"
    return [
        Figure("from applied to seen, p50", "ms", delays_ms[len(delays_ms) // 2], note=note),
        Figure("from applied to seen, p99", "ms", delays_ms[len(delays_ms) * 99 // 100], target="100"),
    ]


def _environment(jobs: int) -> dict[str, str]:
    """Sleep until everybody waits."""
    sleep_s = jobs / JOBS_PER_S + OPENING_S * jobs / OPENED_AT_ONCE + 2 * SETTLED_S
    return {
        "HASTY_JOB_CONCURRENCY": str(jobs),
        "HASTY_JOB_SLEEP_MIN_S": f"{sleep_s:g}",
        "HASTY_JOB_SLEEP_MAX_S": f"{sleep_s:g}",
        "HASTY_JOB_TIMEOUT_S": f"{2 * sleep_s:g}",
        "HASTY_OVERDUE_S": f"{4 * sleep_s:g}",
    }


async def _posted(system: System, jobs: int) -> list[str]:
    """Post jobs, so many a second; their ids."""
    began, job_ids = time.monotonic(), []
    async with httpx.AsyncClient(base_url=system.stack.url, timeout=30) as http:

        async def post(number: int) -> str:
            answer = await http.post("/", json={"object_id": f"waited-for-{number}"})
            if answer.status_code != httpx.codes.CREATED:
                raise BenchmarkError(f"a job was answered {answer.status_code}: {answer.text}")
            return str(answer.json()["message"]["job_id"])

        numbers = iter(range(jobs))
        while chunk := list(islice(numbers, JOBS_PER_S // 10)):
            job_ids += await asyncio.gather(*map(post, chunk))
            await asyncio.sleep(max(0, began + len(job_ids) / JOBS_PER_S - time.monotonic()))
    return job_ids


class Waiter:
    """One connection that asks for a job with `wait`."""

    head = ""
    query = f"?wait={WAIT_S}"

    def __init__(self, address: str, job_id: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._job_id = job_id
        self._asked_at = 0.0

    async def ask(self) -> asyncio.Task[float | None]:
        """Ask; the task returns how many milliseconds after its outcome was applied it was seen.

        It is None when the job had ended before.
        """
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=65_536)
        head = f"GET /v1/jobs/{self._job_id}{self.query} HTTP/1.1\r\nhost: h\r\n{self.head}\r\n"
        self._asked_at = time.time()
        writer.write(head.encode())
        return asyncio.create_task(self._seen(reader, writer))

    async def _seen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float | None:
        body = await self._read(reader)
        seen_at = time.time()
        writer.close()
        job = json.loads(body)
        if job["status"] == "processing":
            raise BenchmarkError(f"job {self._job_id} has not ended after {WAIT_S} s")
        ended_at = datetime.fromisoformat(job["ended_at"]).timestamp()
        return None if ended_at < self._asked_at else (seen_at - ended_at) * 1e3

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"a waiter was answered {head[:100]!r}")
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return await reader.readexactly(int(length.partition(b":")[2]))


class Watcher(Waiter):
    """One connection that watches a job to its outcome."""

    head = "accept: text/event-stream\r\n"
    query = ""

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = b""
        while line := await reader.readline():
            if line.startswith(b"data: "):
                data = line.removeprefix(b"data: ")
                if json.loads(data)["status"] != "processing":
                    return data
        raise BenchmarkError("a stream has ended before its job")


async def _opened(waiters: list[Waiter] | list[Watcher]) -> list[asyncio.Task[float | None]]:
    """Let them ask, some at a time."""
    tasks: list[asyncio.Task[float | None]] = []
    for first in range(0, len(waiters), OPENED_AT_ONCE):
        tasks += await asyncio.gather(*(waiter.ask() for waiter in waiters[first : first + OPENED_AT_ONCE]))
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLED_S)
    return tasks
