"""What the api-server does, on fakes that fail on demand."""

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api_server import service as api_service
from api_server.domain import OVERDUE_GROWS_UP_TO, Job, Lease, Run, Status
from api_server.errors import StoreUnavailable, TooSoonError
from api_server.service import LEASE, RENEW_EVERY, Service, new_job_id
from messaging.events import JobFacts, Outgoing, Subject, encode
from messaging.jetstream import Delivery
from messaging.topology import JOB_CANCELLED, JOB_CREATED, JOB_FINISHED
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeJetStream, FakeJobStore, Fate

COOLDOWN = timedelta(seconds=300)
OVERDUE = timedelta(seconds=180)
READS = {Subject.FINISHED: JOB_FINISHED, Subject.CANCELLED: JOB_CANCELLED}


class World:
    """A database, a broker and any number of api-servers, under one clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 12, tzinfo=UTC)
        self.store = FakeJobStore(lambda: self.time)
        self.broker = FakeBroker(lambda: self.time.timestamp())  # noqa: PLW0108 - the time is another one each time
        self.broker.ensure(50)

    def service(self, new_id: Callable[[], str] = new_job_id, name: str = "api-server") -> Service:
        """One more api-server."""
        return Service(
            self.store,
            FakeJetStream(self.broker),
            now=lambda: self.time,
            cooldown=COOLDOWN,
            overdue=OVERDUE,
            new_id=new_id,
            name=name,
        )

    def pass_time(self, span: timedelta) -> None:
        """Let time pass."""
        self.time += span

    def published(self) -> list[str]:
        """The jobs whose creation the broker delivers now, each as often as it has it."""
        deliveries = self.broker.take(JOB_CREATED, 10_000)
        for delivery in deliveries:
            self.broker.settle(delivery)
        return [json.loads(delivery.data)["job"]["job_id"] for delivery in deliveries]

    async def tell(self, service: Service, subject: Subject, *bodies: bytes) -> list[Delivery]:
        """Publish outcomes and have one api-server read them; what was delivered."""
        for body in bodies:
            self.broker.store(Outgoing(subject.value, body))
        deliveries = self.broker.take(READS[subject], 10_000)
        await service.report(subject, deliveries)
        return deliveries

    def at_rest(self, subject: Subject) -> bool:
        """Whether everything on a subject is settled for good."""
        return self.broker.unfinished(READS[subject]) == 0


@pytest.fixture
def world() -> World:
    """A world of this test's own."""
    return World()


@pytest.fixture
def service(world: World) -> Service:
    """An api-server in it."""
    return world.service()


def outcome(job_id: str, subject: Subject = Subject.FINISHED, slept: float = 20) -> bytes:
    """What a job-server tells."""
    status = {Subject.FINISHED: "finished", Subject.CANCELLED: "cancelled"}[subject]
    return encode(subject, JobFacts(job_id, job_id, "x", status, 1_767_355_200, slept))


# -- admit ----------------------------------------------------------------------------------------------------------


async def test_a_submitted_job_is_stored_and_dispatched(world: World, service: Service) -> None:
    """Once, with its own id, and can be found."""
    job_id = await service.submit("x")
    await service.finish_dispatching()

    job = await service.find(job_id)
    assert job is not None
    assert (job.run.object_id, job.run.number, job.status) == ("x", 1, Status.PROCESSING)
    assert job.run.created_at == world.time
    assert world.published() == [job_id]
    assert await service.find(str(uuid.uuid4())) is None


async def test_the_same_object_waits_for_the_cooldown(world: World, service: Service) -> None:
    """The refusal names the job and the time that is left; afterwards the next run is admitted."""
    first = await service.submit("x")
    world.pass_time(timedelta(seconds=299))

    with pytest.raises(TooSoonError) as caught:
        await service.submit("x")
    assert caught.value.headers() == {"location": f"/{first}", "retry-after": "1"}

    world.pass_time(timedelta(seconds=1))
    second = await service.submit("x")
    job = await service.find(second)
    assert job is not None
    assert job.run.number == 2


@settings(max_examples=60, deadline=None)
@given(wishes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=40))
async def test_of_requests_at_once_each_object_gets_one_job(wishes: list[tuple[str, int]]) -> None:
    """Over three api-servers that do not know of each other, whatever arrives where."""
    world = World()
    services = [world.service() for _ in range(3)]

    answers = await asyncio.gather(
        *(services[which].submit(object_id) for object_id, which in wishes), return_exceptions=True
    )

    for name in {object_id for object_id, _ in wishes}:
        its = [answer for (object_id, _), answer in zip(wishes, answers, strict=True) if object_id == name]
        created = [answer for answer in its if isinstance(answer, str)]
        assert len(created) == 1
        refusals = [answer for answer in its if isinstance(answer, TooSoonError)]
        assert len(refusals) == len(its) - 1
        assert {refusal.decision.job_id for refusal in refusals} <= set(created)


async def test_requests_that_are_in_flight_together_share_one_trip(world: World, service: Service) -> None:
    """One look-up and one insert for a hundred."""
    calls: list[str] = []
    world.store.fate = lambda method: calls.append(method) or Fate.STORED  # type: ignore[func-returns-value]
    first = asyncio.ensure_future(service.submit("the first leaves at once"))

    await asyncio.gather(first, *(service.submit(str(number)) for number in range(100)))

    assert calls.count("latest_runs") <= 2
    assert calls.count("insert") <= 2


async def test_an_insert_without_an_answer_makes_one_job_at_most(world: World, service: Service) -> None:
    """The caller is told to try again, and then where its job is."""
    world.store.fate = lambda method: Fate.UNANSWERED if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await service.submit("x")

    world.store.fate = lambda _: Fate.STORED
    with pytest.raises(TooSoonError) as caught:
        await service.submit("x")

    assert list(world.store.jobs) == [caught.value.decision.job_id]


async def test_without_a_database_everybody_is_told_so(world: World, service: Service) -> None:
    """Those who ask together as well; it passes with the outage."""
    world.store.up = False
    answers = await asyncio.gather(service.submit("x"), service.submit("y"), service.find("z"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3

    world.store.up = True
    assert await service.submit("x")


async def test_who_waits_too_long_is_told_that_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hangs, in the words of the contract: who asks for a job, and who asks about one."""
    monkeypatch.setattr(api_service, "PATIENCE_S", 0.02)
    service = world.service()
    never = asyncio.Event()
    monkeypatch.setattr(world.store, "latest_runs", lambda _: never.wait())
    monkeypatch.setattr(world.store, "get", lambda _: never.wait())

    answers = await asyncio.gather(service.submit("x"), service.find("y"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2


async def test_a_caller_who_hangs_up_does_not_hurt_the_others(service: Service) -> None:
    """Neither while it waits nor while its batch is under way."""
    tasks = [asyncio.ensure_future(service.submit(str(number))) for number in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(answer, str) for answer in answers[1::2])


# -- dispatch -------------------------------------------------------------------------------------------------------


async def test_a_job_whose_publish_got_lost_is_dispatched_by_anybody(world: World, service: Service) -> None:
    """Its own api-server knows of it, and makes it due."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await service.submit("x")
    other = world.service()
    assert await other.sweep() == 0
    await service.finish_dispatching()
    world.broker.fate = lambda _: Fate.STORED

    assert await other.sweep() == 1

    assert world.published() == [job_id]


async def die_before_publishing(world: World, object_id: str) -> str:
    """Have an api-server store a job, and nothing else for ever; the job's id."""
    tried = []

    def lose(message: Outgoing) -> Fate:
        tried.append(message)
        return Fate.LOST

    fate, world.broker.fate = world.broker.fate, lose
    job_id = await world.service().submit(object_id)
    await eventually(lambda: tried)
    world.broker.fate = fate
    return job_id


async def test_the_jobs_of_an_api_server_that_died_are_taken_over(world: World, service: Service) -> None:
    """When it has not renewed its lease for long, and no sooner."""
    job_id = await die_before_publishing(world, "x")
    assert len(world.store.leases) == 1

    world.pass_time(LEASE)
    await service.keep_lease()
    assert await service.sweep() == 0
    world.pass_time(RENEW_EVERY)
    await service.keep_lease()
    assert await service.sweep() == 1

    assert world.published() == [job_id]
    assert len(world.store.leases) == 1, "its own"


async def test_what_an_api_server_renews_is_its_own(world: World, service: Service) -> None:
    """However long it takes to publish; and what it has settled is nobody's business any more."""
    settled = await service.submit("settled")
    await eventually(lambda: world.broker.unfinished(JOB_CREATED))
    for _ in range(5):
        world.pass_time(RENEW_EVERY)
        await service.keep_lease()
    world.broker.fate = lambda _: Fate.LOST
    unsettled = await service.submit("unsettled")
    other = world.service()
    for _ in range(5):
        await other.keep_lease()
        world.pass_time(RENEW_EVERY)
        # As the keeper does it, but for the last step of the dispatch, which has not come round yet.
        await service._renew()  # noqa: SLF001
    assert await other.sweep() == 0

    world.pass_time(2 * LEASE)
    with capture_logs() as logs:
        await other.keep_lease()

    assert [(log["event"], log["jobs"]) for log in logs] == [("lease_taken_over", 1)]
    jobs = await world.store.get([settled, unsettled])
    assert [jobs[settled].dispatches, jobs[unsettled].dispatches] == [1, 0]


async def test_an_api_server_that_stood_still_takes_a_lease_before_it_stores(world: World, service: Service) -> None:
    """Others have taken its jobs over meanwhile."""
    await service.submit("x")
    world.pass_time(2 * LEASE)
    await world.service().keep_lease()
    assert len(world.store.leases) == 1

    await service.submit("y")

    assert len(world.store.leases) == 2


async def test_a_clock_that_was_set_back_does_not_stop_the_renewals(world: World, service: Service) -> None:
    """A lease of the future would never be abandoned."""
    await service.keep_lease()
    world.pass_time(timedelta(minutes=-5))

    await service.keep_lease()

    assert [lease.renewed_at for lease in world.store.leases.values()] == [world.time]


async def test_a_clock_that_was_set_back_leaves_no_gap_below_the_watermark(world: World, service: Service) -> None:
    """What is stored next would be overdue before what is on its way already."""
    world.broker.fate = lambda _: Fate.LOST
    await service.submit("x")
    world.pass_time(timedelta(minutes=-1))

    await service.keep_lease()

    (lease,) = world.store.leases.values()
    assert lease.watermark < world.time + OVERDUE


async def test_what_comes_after_the_end_is_not_stored_under_a_lease_that_was_given_back(
    world: World, service: Service
) -> None:
    """A request whose caller has gone may be the last to be worked on, while the answer is still under way."""
    await service.submit("x")
    answered = asyncio.Event()
    forget = world.store.forget

    async def forget_slowly(lease: Lease) -> None:
        await forget(lease)
        await answered.wait()

    world.store.forget = forget_slowly  # type: ignore[method-assign]
    ending = asyncio.create_task(service.finish_dispatching())
    await eventually(lambda: not world.store.leases)

    await service.submit("y")

    assert len(world.store.leases) == 1
    answered.set()
    await ending


async def test_an_overdue_job_is_not_taken_back_to_its_first_dispatch(world: World, service: Service) -> None:
    """Its next dispatch must get through: the broker may have forgotten the first, and the work may be done."""
    job_id = await service.submit("x")
    await service.keep_lease()
    world.pass_time(OVERDUE)

    await world.service().keep_lease()

    assert (await world.store.get([job_id]))[job_id].dispatches == 1


async def test_two_lives_under_one_name_have_a_lease_each(world: World) -> None:
    """A container that is started again has the name and the process id it had, and must not renew what it left."""
    lives = [world.service(name="host-1") for _ in range(2)]
    for life in lives:
        await life.keep_lease()

    assert len(world.store.leases) == 2
    assert all(owner.startswith("host-1-") for owner in world.store.leases)


async def test_a_clean_end_leaves_no_lease(world: World, service: Service) -> None:
    """There is nothing to be taken over."""
    await service.submit("x")
    await service.keep_lease()

    await service.finish_dispatching()

    assert world.store.leases == {}


@pytest.mark.parametrize("comes", ["at once", "late"])
async def test_an_insert_without_an_answer_is_dispatched_if_it_comes(world: World, comes: str) -> None:
    """Nobody has published it; also when the command was still under way when it was looked for."""
    job_id = new_job_id()
    service = world.service(lambda: job_id)
    fate = {"at once": Fate.UNANSWERED, "late": Fate.LOST}[comes]
    world.store.fate = lambda method: fate if method == "insert" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await service.submit("x")
    await service.keep_lease()
    world.store.fate = lambda _: Fate.STORED
    if comes == "late":
        await world.store.insert([Job(Run("x", 1, job_id, world.time), dispatches=1)], world.time + OVERDUE, "its")

    await service.keep_lease()

    assert await service.sweep() == 1
    await service.keep_lease()
    assert await service.sweep() == 0, "it is not asked for again"
    assert world.published() == [job_id]


async def test_what_could_not_be_made_due_is_made_due_later(world: World, service: Service) -> None:
    """When the database is back."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await service.submit("x")
    world.store.up = False
    with pytest.raises(StoreUnavailable):
        await service.finish_dispatching()
    world.store.up = True
    world.broker.fate = lambda _: Fate.STORED

    await service.keep_lease()

    assert await service.sweep() == 1
    assert world.published() == [job_id]


async def test_a_publish_without_an_answer_is_repeated_under_the_same_id(world: World, service: Service) -> None:
    """The broker drops the repetition."""
    world.broker.fate = lambda _: Fate.UNANSWERED
    job_id = await service.submit("x")
    await service.finish_dispatching()
    world.broker.fate = lambda _: Fate.STORED

    assert await service.sweep() == 1

    assert world.published() == [job_id]


async def test_two_api_servers_that_sweep_at_once_dispatch_once(world: World, service: Service) -> None:
    """Both publish under the same id."""
    world.broker.up = False
    job_id = await service.submit("x")
    await service.finish_dispatching()
    world.broker.up = True

    await asyncio.gather(service.sweep(), world.service().sweep())

    assert world.published() == [job_id]


async def test_without_a_broker_jobs_are_accepted_and_wait(world: World, service: Service) -> None:
    """Nothing is looked for meanwhile; when it is back, they leave at once."""
    world.broker.up = False
    job_ids = [await service.submit(str(number)) for number in range(5)]
    await service.finish_dispatching()
    assert await service.sweep() == 0

    world.broker.up = True
    assert await service.sweep() == 5

    assert world.published() == job_ids


async def test_a_job_without_news_is_dispatched_again(world: World, service: Service) -> None:
    """Each time under a new id, so that it gets through, after a growing but bounded wait."""
    job_id = await service.submit("x")
    await service.finish_dispatching()
    assert world.published() == [job_id]

    waits = []
    for _ in range(6):
        begun = world.time
        while not await service.sweep():
            world.pass_time(timedelta(seconds=10))
        assert world.published() == [job_id]
        waits.append(world.time - begun)

    assert waits[0] >= OVERDUE
    assert waits == sorted(waits)
    assert waits[-1] <= OVERDUE_GROWS_UP_TO * OVERDUE


async def test_a_mark_that_is_lost_costs_one_harmless_dispatch(world: World, service: Service) -> None:
    """The next sweep publishes under the same id."""
    world.broker.up = False
    job_id = await service.submit("x")
    world.broker.up = True
    world.store.fate = lambda method: Fate.LOST if method == "mark_dispatched" else Fate.STORED
    with pytest.raises(StoreUnavailable):
        await service.sweep()
    world.store.fate = lambda _: Fate.STORED

    assert await world.service().sweep() == 1

    assert world.published() == [job_id]


async def test_when_the_broker_has_lost_everything_all_unfinished_jobs_leave_again(
    world: World, service: Service
) -> None:
    """Those that have ended do not."""
    job_ids = [await service.submit(str(number)) for number in range(3)]
    await service.finish_dispatching()
    await world.tell(service, Subject.FINISHED, outcome(job_ids[0]))
    world.broker.wipe()
    world.broker.ensure(50)

    await service.broker_lost_everything()
    assert await service.sweep() == 2

    assert sorted(world.published()) == sorted(job_ids[1:])


@pytest.mark.parametrize(("jobs", "level"), [(0, "info"), (2, "warning")])
async def test_a_new_stream_is_a_warning_only_where_jobs_were_on_their_way(
    service: Service, jobs: int, level: str
) -> None:
    """The first start of all is no reason to worry anybody."""
    for number in range(jobs):
        await service.submit(str(number))
    await service.finish_dispatching()

    with capture_logs() as logs:
        await service.broker_lost_everything()

    assert logs == [
        {
            "event": "stream_is_new",
            "log_level": level,
            "logger_name": "api_server.service",
            "unfinished_jobs_due": jobs,
        }
    ]


async def test_the_dispatcher_survives_outages(world: World, service: Service) -> None:
    """It goes on by itself when the database is back."""
    world.broker.fate = lambda _: Fate.LOST
    job_id = await service.submit("x")
    await service.finish_dispatching()
    world.broker.fate = lambda _: Fate.STORED
    world.store.up = False

    async with asyncio.TaskGroup() as group:
        dispatcher = group.create_task(service.run_dispatcher(), name="dispatcher")
        await asyncio.sleep(0)
        world.store.up = True
        service.broker_is_back()
        await eventually(lambda: world.published() == [job_id])
        dispatcher.cancel()


# -- report ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [Subject.FINISHED, Subject.CANCELLED])
async def test_an_outcome_ends_its_job(world: World, service: Service, subject: Subject) -> None:
    """Then, and only then, it is acknowledged; the job is never dispatched again."""
    job_id = await service.submit("x")
    await service.finish_dispatching()

    await world.tell(service, subject, outcome(job_id, subject, 17))

    job = await service.find(job_id)
    assert job is not None
    assert (job.status.value, job.sleep_time_used) == (subject.value.removeprefix("job:"), 17)
    assert world.at_rest(subject)
    world.published()
    world.pass_time(10 * OVERDUE)
    assert await service.sweep() == 0


async def test_later_outcomes_are_acknowledged_and_change_nothing(world: World, service: Service) -> None:
    """Repetitions and contradictions alike."""
    job_id = await service.submit("x")
    await world.tell(service, Subject.FINISHED, outcome(job_id, slept=17), outcome(job_id, slept=18))
    before = await service.find(job_id)

    await world.tell(service, Subject.CANCELLED, outcome(job_id, Subject.CANCELLED, 46))
    await world.tell(service, Subject.FINISHED, outcome(job_id, slept=19))

    assert await service.find(job_id) == before
    assert world.store.moves == [(job_id, Status.FINISHED)]
    assert world.at_rest(Subject.FINISHED)
    assert world.at_rest(Subject.CANCELLED)


async def test_nonsense_is_set_aside_and_stops_nothing(world: World, service: Service) -> None:
    """It never comes again, and the sense beside it gets through."""
    job_id = await service.submit("x")
    stranger = str(uuid.uuid4())

    await world.tell(service, Subject.FINISHED, b"\xff", outcome(job_id), outcome(stranger), b"{}")

    job = await service.find(job_id)
    assert job is not None
    assert job.status is Status.FINISHED
    assert world.at_rest(Subject.FINISHED)
    asides = {data: reason for _, data, reason in world.store.aside.values()}
    assert set(asides) == {b"\xff", outcome(stranger), b"{}"}
    assert asides[outcome(stranger)] == "no such job"


async def test_outcomes_wait_for_the_database(world: World, service: Service) -> None:
    """They are handed back, not lost and not set aside, and come again."""
    job_id = await service.submit("x")
    world.store.fate = lambda method: Fate.UNANSWERED if method == "apply" else Fate.STORED
    await world.tell(service, Subject.FINISHED, outcome(job_id), b"nonsense")
    assert not world.at_rest(Subject.FINISHED)

    world.store.fate = lambda _: Fate.STORED
    world.pass_time(timedelta(seconds=2))
    await world.tell(service, Subject.FINISHED)

    assert world.store.moves == [(job_id, Status.FINISHED)]
    assert world.at_rest(Subject.FINISHED)
    assert len(world.store.aside) == 1


async def test_a_message_is_not_settled_before_it_is_set_aside(world: World, service: Service) -> None:
    """Otherwise it would be gone where nobody can read it."""
    world.store.fate = lambda method: Fate.LOST if method == "set_aside" else Fate.STORED
    await world.tell(service, Subject.FINISHED, b"nonsense")

    assert not world.at_rest(Subject.FINISHED)
    assert world.store.aside == {}


async def test_a_message_that_nobody_foresaw_can_be_given_up(world: World, service: Service) -> None:
    """It is set aside with its reason and never comes again."""
    world.broker.store(Outgoing(Subject.FINISHED.value, b"odd"))
    [delivery] = world.broker.take(JOB_FINISHED, 1)

    await service.give_up(delivery, "a defect")

    assert world.at_rest(Subject.FINISHED)
    assert [aside[1:] for aside in world.store.aside.values()] == [(b"odd", "a defect")]


async def test_a_huge_message_is_cut(world: World, service: Service) -> None:
    """What is kept has a bound."""
    await world.tell(service, Subject.FINISHED, b"x" * 100_000)

    assert [len(data) for _, data, _ in world.store.aside.values()] == [64 * 1024]


def unknown_time(world: World) -> Callable[[], datetime]:
    """A clock of an api-server whose database has not told its time."""

    def now() -> datetime:
        if not world.store.up:
            raise StoreUnavailable("the database has not told its time yet")
        return world.time

    return now


async def test_without_a_time_nothing_is_decided(world: World) -> None:
    """An api-server that cannot know the time says so, and works when it does."""
    service = Service(
        world.store, FakeJetStream(world.broker), now=unknown_time(world), cooldown=COOLDOWN, overdue=OVERDUE
    )
    world.store.up = False
    with pytest.raises(StoreUnavailable):
        await service.submit("x")
    with pytest.raises(StoreUnavailable):
        await service.sweep()

    world.store.up = True
    assert await service.submit("x")
