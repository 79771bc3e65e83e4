"""Everything behind `/v1`, on fakes, under a clock that stands still until it is moved."""

import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from api_server.batches import Batches
from api_server.cancellation import Cancellation
from api_server.changes import Changes
from api_server.http.streams import Streams
from api_server.http.v1 import V1
from api_server.http.v1_batches import BatchRequests
from api_server.http.v1_lists import Lists, SharedOverview
from api_server.http.views import News, Views
from api_server.kinds import Kinds
from api_server.listing import Listing
from api_server.overview import Overviews
from api_server.queries import Queries
from api_server.repetition import Repetition
from api_server.submission import Submission
from api_server.watch import Watch
from api_server.workers import Workers
from hasty.ids import new_job_id
from hasty.jobs import SLEEP, DeadLetter, Ending, Failure, Job, Kind, Report, Status, Task, Way
from hasty.server.messaging.events import announced_kind, announcement
from hasty.server.messaging.topology import KIND_ANNOUNCED
from tests.fakes import FakeJetStream, FakeKindStore, FakeListingStore, FakeRequestStore, FakeStatusStore
from tests.unit.api_server import world
from tests.unit.api_server.world import COOLDOWN, ApiServer


def schema(**properties: str) -> str:
    """Write the schema of an object with these members, all required, by their types."""
    members = {name: {"type": kind} for name, kind in properties.items()}
    return json.dumps({"type": "object", "properties": members, "required": list(members)})


GREET = Kind("greet", Way.ASYNC, "v1", schema(name="string"), '{"type": "string"}', attempts=3, timeout_s=120)
FETCH = Kind("fetch", Way.THREAD, "v1", schema(url="string"), "{}", key="{url}", cooldown_s=60)


class V1World:
    """An api-server's `/v1`, put together as its `__main__` does it."""

    def __init__(  # long: wiring, read from top to bottom
        self, within: "World", server: ApiServer, new_id: Callable[[str | None], str]
    ) -> None:
        broker = FakeJetStream(within.broker)
        self.server = server
        self.workers = Workers()
        self.kinds = Kinds(
            within.kind_store, broker, server.dead_letters, now=lambda: within.time, served=self.workers.served
        )
        self.statuses = FakeStatusStore(within.store)
        self.watch = Watch(self.statuses, Queries(within.store).record)
        server.endings.on_applied = self.watch.wake
        self.submission = Submission(
            self.kinds,
            within.store,
            within.store,
            within.request_store,
            server.outbox,
            now=lambda: within.time,
            root_kind=SLEEP,
            root_cooldown=COOLDOWN,
            new_id=new_id,
        )
        self.swept = 0
        self.published: list[list[str]] = []
        cancellation = Cancellation(
            within.store, now=lambda: within.time, sweep_soon=self._sweep_soon, publish=self._publish
        )
        views = Views(
            self.kinds,
            self.workers,
            now=lambda: within.time,
            root_kind=SLEEP,
            root_cooldown_s=COOLDOWN.total_seconds(),
            news=News(50, lambda: 7, lambda: None, lambda _: False, lambda _: None),
        )
        find = Queries(within.store).record
        self.stored = FakeListingStore(within.store)
        self.changes = Changes(self.stored, now=lambda: within.time)
        repetition = Repetition(self.submission, find, root_kind=SLEEP)
        overviews = Overviews(self.stored, now=lambda: within.time, root_kind=SLEEP, unserved=self.kinds.unserved)
        lists = Lists(
            Listing(self.stored, now=lambda: within.time, root_kind=SLEEP),
            SharedOverview(overviews, views),
            _no_dead_letters,
            Streams(self.watch, self.changes, find, views.job),
            views,
        )
        batches = Batches(
            self.stored,
            within.request_store,
            self.submission,
            cancellation,
            repetition,
            self.watch,
            now=lambda: within.time,
        )
        requests = BatchRequests(batches, views)
        self.v1 = V1(self.submission, find, cancellation, self.watch, views, repetition, lists, requests)

    def _sweep_soon(self) -> None:
        self.swept += 1

    def _publish(self, data: bytes) -> Awaitable[None]:
        self.published.append(json.loads(data))
        return _nothing()


class World(world.World):
    """A world with kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.kind_store = FakeKindStore()
        self.request_store = FakeRequestStore()

    def v1(self, new_id: Callable[[str | None], str] = new_job_id) -> V1World:
        """One more api-server."""
        return V1World(self, self.api_server(), new_id)

    async def announced(self, v1: V1World, *kinds: Kind) -> None:
        """Have kinds announced, and one api-server hear it."""
        for kind in kinds:
            self.broker.store(announced_kind(kind))
        self.broker.ensure(50, [kind.name for kind in kinds])
        await v1.kinds.take(self.broker.take(KIND_ANNOUNCED, 100))

    async def end(
        self,
        v1: V1World,
        job_id: str,
        status: Status = Status.FINISHED,
        *,
        output: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Have a job's turn end, and one api-server apply it."""
        turn = self.store.jobs[job_id].turn
        at = self.time.timestamp()
        report = None if turn.task is None else Report("w-1", "v1", at - 2, at - 1, output=output, failure=failure)
        await self.apply(v1.server, status, announcement(Ending(turn, status, 1, report=report)).body)


def pulse(
    job: Job | None = None,
    *,
    worker: str = "w-1",
    at: float | None = None,
    kind: Kind = GREET,
    sleep: int | None = None,
) -> bytes:
    """What a job-server says of itself; it runs this job, if one is given."""
    running = [] if job is None else [[job.job_id, job.turn_number, 1, 1, job.created_at.timestamp(), 0.5, "half"]]
    return json.dumps(
        {
            "worker": worker,
            "at": time.time() if at is None else at,
            "kinds": {kind.name: kind.version},
            "slots": {kind.name: 7},
            "sleep": sleep,
            "held": len(running),
            "running": running,
            "part": [0, 1],
        }
    ).encode()


def job_of(kind: Kind, given: object, at: datetime, *, key: str | None = None) -> Job:
    """Make a job of a kind."""
    job_id = new_job_id(kind.name)
    place = f"{kind.name}\x1f{key}" if key is not None else f"\x1f{job_id}"
    return Job(job_id, place, 1, at, task=Task(kind.name, json.dumps(given)))


SECOND = timedelta(seconds=1)


async def _no_dead_letters(_limit: int) -> list[tuple[datetime, DeadLetter]]:
    return []


async def _nothing() -> None:
    pass
