"""The two systems that are measured: the limit and Hasty, each a local stack with nginx in front."""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx

from benchmarks.load import BenchmarkError, Load, post_jobs
from benchmarks.proc import Memory, memory
from hasty.server.local_stack.config import StackConfig
from hasty.server.local_stack.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.05
DRAIN_TIMEOUT_S = 300
# Defaults but for these: jobs that take no time, so that the system's own work is all there is.
NO_SLEEP = {"HASTY_JOB_SLEEP_MIN_S": "0", "HASTY_JOB_SLEEP_MAX_S": "0"}
# The parts that the limit has no use for: never started, never reached.
NOWHERE_NATS = "nats://127.0.0.1:1"
NOWHERE_MONGO = "mongodb://127.0.0.1:1"


@dataclass(frozen=True)
class Counts:
    """What the services' own counters say."""

    accepted: float
    applied: float
    started: float
    held: float


class System:
    """A running stack, and what can be measured of it."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient, nats_url: str | None) -> None:
        self.stack = stack
        self.nats_url = nats_url or stack.children["nats"].url
        self.loads: list[Load] = []
        self._http = http

    async def load_kind(self, kind: str, *, connections: int, seconds: float | None = None, jobs: int = 0) -> Load:
        """Post jobs of a handler's kind through nginx."""
        return await post_jobs(self.stack.url, connections=connections, seconds=seconds, jobs=jobs, kind=kind)

    async def serves(self, kind: str) -> None:
        """Wait until a job-server serves a kind."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline:
            kinds = (await self._http.get(f"{self.stack.url}/v1/kinds")).json()["data"]
            if any(one["name"] == kind and one["workers"] for one in kinds):
                return
            await asyncio.sleep(POLL_S)
        raise BenchmarkError(f"no job-server serves {kind}")

    async def newest(self, kind: str) -> AsyncGenerator[dict[str, Any], None]:
        """Every job of a kind, as `/v1` lists it, newest first."""
        query = {"kind": kind, "limit": "100"}
        while True:
            page = (await self._http.get(f"{self.stack.url}/v1/jobs", params=query)).raise_for_status().json()
            for job in page["data"]:
                yield job
            if page["next"] is None:
                return
            query["after"] = page["next"]

    async def load(
        self, *, connections: int, seconds: float | None = None, jobs: int = 0, may_be_refused: bool = False
    ) -> Load:
        """Post jobs through nginx and remember the load for the audit."""
        load = await post_jobs(
            self.stack.url, connections=connections, seconds=seconds, jobs=jobs, may_be_refused=may_be_refused
        )
        self.loads.append(load)
        return load

    async def post(self, jobs: int) -> None:
        """Post exactly this many jobs, one after the other."""
        prefix = token_hex(6)
        for number in range(jobs):
            answer = await self._http.post(self.stack.url, json={"object_id": f"{prefix}-{number}"})
            if answer.status_code != httpx.codes.CREATED:
                raise BenchmarkError(f"a job was answered {answer.status_code}: {answer.text}")
        self.loads.append(Load(prefix, connections=0, accepted=jobs, seconds=0, p50_ms=0, p99_ms=0))

    def pids(self, *roles: str) -> dict[str, int]:
        """The running children by name, of the given roles or all."""
        return {
            name: child.pid
            for name, child in self.stack.children.items()
            if child.pid is not None and (not roles or child.role in roles)
        }

    def memory(self) -> dict[str, Memory]:
        """The memory of every child now."""
        return {name: memory(pid) for name, pid in self.pids().items()}

    async def counts(self) -> Counts:
        """The counters of all services, added up."""
        totals: dict[str, float] = {}
        for name, child in list(self.stack.children.items()):
            if child.role in {"api-server", "job-server"} and child.pid is not None:
                answer = await self._http.get(f"http://{child.address}/metrics")
                if any(child.exits):
                    raise BenchmarkError(f"{name} has died under the load, with {child.exits}: see its log")
                for line in answer.text.splitlines():
                    if line.startswith("hasty_"):
                        sample, _, value = line.rpartition(" ")
                        metric = sample.partition("{")[0]
                        totals[metric] = totals.get(metric, 0) + float(value)
        return Counts(
            accepted=totals.get("hasty_jobs_accepted_total", 0),
            applied=totals.get("hasty_endings_applied_total", 0),
            started=totals.get("hasty_jobs_started_total", 0),
            held=totals.get("hasty_jobs_held", 0),
        )

    async def drained(self) -> float:
        """Wait until every accepted job has its outcome; the moment it was seen, by `time.monotonic`."""
        return await self.reached("an outcome of every job", lambda counts: counts.applied >= counts.accepted)

    async def reached(self, what: str, is_true: Callable[[Counts], bool], timeout_s: float = DRAIN_TIMEOUT_S) -> float:
        """Wait until something is true of the counters; the moment it was seen, by `time.monotonic`.

        Raises:
            BenchmarkError: it is still not true after the time.
        """
        deadline = time.monotonic() + timeout_s
        while not is_true(counts := await self.counts()):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{what}: not reached within {timeout_s:g} s, but {counts}")
            await asyncio.sleep(POLL_S)
        return time.monotonic()


@asynccontextmanager
async def limit(**overrides: object) -> AsyncIterator[System]:
    """The application that does nothing, behind the same nginx."""
    command = [sys.executable, "-m", "benchmarks.limit_app"]
    async with _running(
        "limit",
        job_servers=0,
        nats_url=NOWHERE_NATS,
        api_mongo_url=NOWHERE_MONGO,
        job_mongo_url=NOWHERE_MONGO,
        commands={"api-server": command},
        **overrides,
    ) as system:
        yield system


@asynccontextmanager
async def hasty(
    *,
    environment: Mapping[str, str] = NO_SLEEP,
    commands: Mapping[str, Sequence[str]] | None = None,
    **overrides: object,
) -> AsyncIterator[System]:
    """Hasty as `make up` starts it, with default settings but for `environment`."""
    async with _running("hasty", environment=environment, commands=commands or {}, **overrides) as system:
        yield system


@asynccontextmanager
async def _running(name: str, **parts: object) -> AsyncIterator[System]:
    folder = ROOT / ".hasty" / f"bench-{name}-{token_hex(3)}"  # the same disk as `make up` uses
    config = StackConfig(folder=folder, **parts)  # type: ignore[arg-type]  # each row names its own
    try:
        async with (
            Stack.running(config) as stack,
            httpx.AsyncClient(timeout=30) as http,
        ):
            yield System(stack, http, config.nats_url)
    except BaseException as error:
        shutil.rmtree(folder / "data", ignore_errors=True)
        error.add_note(f"the logs of {name} are in {folder / 'logs'}")
        raise
    shutil.rmtree(folder, ignore_errors=True)
