"""Steady load through nginx, and the books: what became of every job that was accepted."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.compose.project import Project
from tests.eventually import eventually

PER_SECOND = 20
IN_FLIGHT_MAX = 200


@dataclass
class Load:
    """Posts an object that nobody has posted before, then asks for the job, `PER_SECOND` times a second."""

    url: str
    prefix: str = field(default_factory=lambda: f"load-{uuid.uuid4()}-")
    accepted: dict[str, str] = field(default_factory=dict)
    """Object by object, the job that was answered with 201."""
    failures: list[str] = field(default_factory=list)
    """What else was answered, or that nothing was."""
    sent: int = 0

    @classmethod
    @asynccontextmanager
    async def steady(cls, url: str) -> AsyncIterator["Load"]:
        """Load until the block is left; every request has its answer by then."""
        load = cls(url)
        limits = httpx.Limits(max_connections=IN_FLIGHT_MAX)
        async with httpx.AsyncClient(base_url=url, timeout=15, limits=limits) as http, asyncio.TaskGroup() as requests:
            ticker = requests.create_task(load._tick(http, requests), name="ticker")
            try:
                yield load
            finally:
                ticker.cancel()

    async def flows(self, count: int = 30) -> None:
        """Return when as many more jobs have been accepted."""
        enough = len(self.accepted) + count
        await eventually(lambda: len(self.accepted) >= enough, within_s=60)

    async def goes_on(self, *, for_s: float) -> None:
        """Return when as much load has been sent as belongs to that time, whatever became of it."""
        enough = self.sent + int(for_s * PER_SECOND)
        await eventually(lambda: self.sent >= enough, within_s=2 * for_s + 10)

    async def _tick(self, http: httpx.AsyncClient, requests: asyncio.TaskGroup) -> None:
        """Send at fixed times, whether or not the answers come; more than we may have in flight is a failure."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        in_flight: set[asyncio.Task[None]] = set()
        while True:
            self.sent += 1
            if len(in_flight) < IN_FLIGHT_MAX:
                task = requests.create_task(self._visit(http, f"{self.prefix}{self.sent:05}"))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            else:
                self.failures.append(f"not sent: {IN_FLIGHT_MAX} requests are waiting for an answer")
            await asyncio.sleep(started + self.sent / PER_SECOND - loop.time())

    async def _visit(self, http: httpx.AsyncClient, object_id: str) -> None:
        started = asyncio.get_running_loop().time()
        try:
            created = await http.post("/", json={"object_id": object_id})
            if created.status_code != 201:
                self._failed("POST", started, f"{created.status_code} {created.text}")
                return
            job_id = created.json()["message"]["job_id"]
            self.accepted[object_id] = job_id
            job = await http.get(f"/{job_id}")
            if job.status_code != 200:
                self._failed("GET", started, f"{job.status_code} {job.text}")
        except httpx.HTTPError as error:
            self._failed("request", started, repr(error))

    def _failed(self, what: str, started: float, why: str) -> None:
        took = asyncio.get_running_loop().time() - started
        self.failures.append(f"{what} after {took:.2f} s: {why}")


async def exactly_once(project: Project, load: Load, *, within_s: float = 60.0) -> None:
    """Every accepted job is finished, once, and both services' books say the same; nothing is left over.

    Raises:
        AssertionError: naming the jobs for which it is not so `within_s` seconds after the call.
    """
    assert load.accepted, "no job was accepted at all"
    api: dict[str, Any] = {}

    async def all_ended() -> bool:
        api.update(await project.ask_inside("api-server", "api_jobs.py", load.prefix))
        still = [job for job in api["jobs"] if job["status"] == "processing"]
        assert not still, f"{len(still)} of {len(api['jobs'])} jobs are still processing: {still[:3]}"
        return True

    await eventually(all_ended, within_s=within_s, every_s=0.5)
    jobs = {job["_id"]: job for job in api["jobs"]}
    job_of_object = {job["object_id"]: job["_id"] for job in api["jobs"]}
    assert len(job_of_object) == len(jobs), "an object has two jobs"
    lost = {object_id: job_id for object_id, job_id in load.accepted.items() if job_of_object.get(object_id) != job_id}
    assert not lost, f"accepted, but not in the api-server's books: {lost}"

    job_side = await project.ask_inside("job-server", "job_outcomes.py", load.prefix)
    told = {job_id: (job["status"], job["sleep_time_used"]) for job_id, job in jobs.items()}
    kept = {outcome["_id"]: (outcome["status"], outcome["sleep_time_used"]) for outcome in job_side["outcomes"]}
    assert told == kept, f"the books differ: {dict(list(told.items() ^ kept.items())[:6])}"
    assert {status for status, _ in kept.values()} == {"finished"}
    letters = [*api["dead_letters"], *job_side["dead_letters"]]
    assert not letters, f"there are {len(letters)} dead letters: {letters[:5]}"
    await eventually(lambda: _nothing_pending(project), within_s=20, every_s=0.5)


async def _nothing_pending(project: Project) -> bool:
    backlog = await project.ask_inside("set-up", "nats_backlog.py")
    assert not any(backlog.values()), backlog
    return True
