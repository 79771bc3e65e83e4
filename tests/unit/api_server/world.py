"""An api-server on fakes, under a clock that stands still until it is moved."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from api_server.admission import Admission
from api_server.endings import Endings
from api_server.outbox import Outbox
from api_server.queries import Queries
from hasty.ids import new_job_id
from hasty.jobs import Ending, Status, Turn
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import ENDING_SUBJECTS, Outgoing, announcement
from hasty.server.messaging.topology import JOB_AGAIN, JOB_CANCELLED, JOB_CREATED, JOB_FAILED, JOB_FINISHED
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore, FakeLeaseStore, Fate

COOLDOWN = timedelta(seconds=300)
OVERDUE = timedelta(seconds=180)
READS = {
    Status.FINISHED: JOB_FINISHED,
    Status.FAILED: JOB_FAILED,
    Status.CANCELLED: JOB_CANCELLED,
    Status.PROCESSING: JOB_AGAIN,
}


class ApiServer:
    """An api-server's parts, put together as its `__main__` does it."""

    def __init__(self, world: "World", now: Callable[[], datetime], new_id: Callable[[str], str], name: str) -> None:
        broker = FakeJetStream(world.broker)
        self.outbox = Outbox(
            world.store,
            world.lease_store,
            broker,
            now=now,
            overdue=OVERDUE,
            is_running=lambda job: (job.job_id, job.turn_number) in world.running,
            name=name,
        )
        self.lease = self.outbox.lease
        self.submit = Admission(world.store, self.outbox, now=now, cooldown=COOLDOWN, new_id=new_id).submit
        self.find = Queries(world.store).find
        self.dead_letters = DeadLetters(world.store.dead_letter, broker)
        self.endings = Endings(world.store, broker, self.dead_letters, now=now, confirm=self.outbox.confirm)


class World:
    """A database, a broker and any number of api-servers, under one clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 12, tzinfo=UTC)
        self.store = FakeJobStore(lambda: self.time)
        self.lease_store = FakeLeaseStore(self.store)
        self.leases = self.lease_store.leases
        self.broker = FakeBroker(lambda: self.time.timestamp())  # noqa: PLW0108 - the time is another one each time
        self.broker.ensure(50)
        self.running: set[tuple[str, int]] = set()
        """The turns, by job id and number, of which a worker says that it runs them."""

    def api_server(
        self,
        new_id: Callable[[str], str] = new_job_id,
        name: str = "api-server",
        now: Callable[[], datetime] | None = None,
    ) -> ApiServer:
        """One more api-server."""
        return ApiServer(self, now or (lambda: self.time), new_id, name)

    def pass_time(self, span: timedelta) -> None:
        """Let time pass."""
        self.time += span

    def published(self) -> list[str]:
        """The jobs whose creation the broker delivers now, each as often as it has it."""
        deliveries = self.broker.take(JOB_CREATED, 10_000)
        for delivery in deliveries:
            self.broker.settle(delivery)
        return [json.loads(delivery.data)["job"]["job_id"] for delivery in deliveries]

    async def apply(self, api_server: ApiServer, status: Status, *bodies: bytes) -> list[Delivery]:
        """Publish endings and have one api-server apply them; what was delivered."""
        for body in bodies:
            self.broker.store(Outgoing(ENDING_SUBJECTS[status].value, body))
        deliveries = self.broker.take(READS[status], 10_000)
        await api_server.endings.apply_endings(status, deliveries)
        return deliveries

    def at_rest(self, status: Status) -> bool:
        """Whether everything on a status's subject is acknowledged."""
        return self.broker.unfinished(READS[status]) == 0


def ending(job_id: str, status: Status = Status.FINISHED, slept: float = 20) -> bytes:
    """What a job-server publishes."""
    return announcement(Ending(Turn(job_id, "x", 1_767_355_200), status, slept)).body


async def die_before_publishing(world: World, object_id: str) -> str:
    """Have an api-server store a job, and nothing else for ever; the job's id."""
    tried = []

    def lose(message: Outgoing) -> Fate:
        tried.append(message)
        return Fate.LOST

    fate, world.broker.fate = world.broker.fate, lose
    job_id = await world.api_server().submit(object_id)
    await eventually(lambda: tried)
    world.broker.fate = fate
    return job_id
