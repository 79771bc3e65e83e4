"""The real services in a world that loses, repeats and reorders: hypothesis looks for a story that breaks an invariant.

A failing story is shrunk to the fewest steps and printed as a list of calls, to be kept as a test of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hasty.jobs import Ending, Status, Turn
from hasty.server.messaging.events import Outgoing, Subject, announcement
from tests.chaos.checker import TERMINAL, Rules, judge
from tests.chaos.history import Sent
from tests.fakes import FakeEndingStore, FakeJobStore, Fate
from tests.faults.world import API_SERVERS, COOLDOWN_S, JOB_SERVERS, SUBJECTS, World, published

RULES = Rules(cooldown_s=COOLDOWN_S, clock_tolerance_s=0.1)
STORIES = 200
LONGEST = 100

objects = st.sampled_from(["a", "b", "c"])
api_numbers = st.integers(0, API_SERVERS - 1)
job_numbers = st.integers(0, JOB_SERVERS - 1)
fates = st.lists(st.sampled_from([Fate.LOST, Fate.UNANSWERED, Fate.STORED]), min_size=1, max_size=4)


class Life(RuleBasedStateMachine):  # long: a rule for each event
    """Everything that may happen, in any order; the invariants are judged after each story, some after each step."""

    world: World

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Two of each service, a broker, two databases."""
        self.world = World(seed)
        self.ended: dict[str, Any] = {}

    # -- callers and time -----------------------------------------------------------------------------------------

    @rule(number=api_numbers, object_id=objects)
    def post(self, number: int, object_id: str) -> None:
        """A caller asks for a job."""
        self.world.post(number, object_id)

    @rule(object_id=objects)
    def post_everywhere(self, object_id: str) -> None:
        """The same object is asked for at every api-server at once."""
        for number in range(API_SERVERS):
            self.world.post(number, object_id)

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 12.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Nothing happens to the system for a while."""
        self.world.pass_time(seconds)

    # -- processes ------------------------------------------------------------------------------------------------

    @rule(number=api_numbers)
    def kill_api_server(self, number: int) -> None:
        """SIGKILL, wherever it is."""
        self.world.replace_api_server(number)

    @rule(number=job_numbers)
    def kill_job_server(self, number: int) -> None:
        """SIGKILL, wherever it is."""
        self.world.replace_job_server(number)

    @rule(number=job_numbers, seconds=st.sampled_from([2.0, 11.0]))
    def freeze_job_server(self, number: int, seconds: float) -> None:
        """It stands still, perhaps for longer than the acknowledgement wait, while the others go on."""
        self.world.job_servers[number].freeze()
        self.world.pass_time(seconds)
        self.world.job_servers[number].thaw()

    @rule(number=api_numbers, seconds=st.sampled_from([2.0, 11.0]))
    def freeze_api_server(self, number: int, seconds: float) -> None:
        """It stands still while the others go on."""
        self.world.api_servers[number].freeze()
        self.world.pass_time(seconds)
        self.world.api_servers[number].thaw()

    # -- broker ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 4.0, 15.0]))
    def lose_broker(self, seconds: float) -> None:
        """The broker is away for a while."""
        self.world.turn_broker("down")
        self.world.pass_time(seconds)
        self.world.turn_broker("up")

    @rule()
    def wipe_broker(self) -> None:
        """The broker forgets everything."""
        self.world.broker.wipe()

    @rule(coming=fates)
    def lose_publishes(self, coming: list[Fate]) -> None:
        """The next messages, or their confirmations, are lost."""
        left = list(coming)
        self.world.broker.fate = lambda _message: left.pop() if left else Fate.STORED

    @rule()
    def reorder(self) -> None:
        """From now on messages are delivered in any order, or no longer so."""
        self.world.reordering = not self.world.reordering

    @precondition(lambda self: bool(published(self.world)))
    @rule(data=st.data(), count=st.integers(1, 3))
    def tell_again(self, data: st.DataObject, count: int) -> None:
        """Old messages come again as news."""
        before = published(self.world)
        for subject, body in data.draw(st.lists(st.sampled_from(before), min_size=count, max_size=count)):
            self.world.broker.store(Outgoing(subject, body))

    @precondition(lambda self: self.world.broker.usable)
    @rule(subject=st.sampled_from(SUBJECTS), data=st.binary(max_size=20))
    def tell_malformed(self, subject: Subject, data: bytes) -> None:
        """A message that means nothing; the broker is not lost before it is read."""
        # What was delivered by a stream that is gone is answered first: in a new one, it would answer for this message.
        self.world.heal()
        self.world.pass_time(30)
        marked = b"%d " % len(self.world.history.sent) + data
        self.world.broker.fate = lambda _message: Fate.STORED
        assert self.world.broker.store(Outgoing(subject.value, marked))
        self.world.history.sent.append(Sent(0, subject.value, marked, "malformed", dead_letter=True))
        self.world.heal()
        self.world.pass_time(30)

    @precondition(lambda self: bool(self.ended))
    @rule(data=st.data())
    def tell_a_lie(self, data: st.DataObject) -> None:
        """An outcome that contradicts an ended job."""
        job_id = data.draw(st.sampled_from(sorted(self.ended)))
        job = self.world.jobs.jobs[job_id]
        other = Status.CANCELLED if job.status is Status.FINISHED else Status.FINISHED
        self.world.broker.store(announcement(Ending(Turn(job_id, job.object_id, 1), other, 99)))

    # -- databases ------------------------------------------------------------------------------------------------

    @rule(which=st.sampled_from(["jobs", "outcomes"]), seconds=st.sampled_from([0.5, 4.0, 15.0]))
    def lose_database(self, which: str, seconds: float) -> None:
        """A database is away for a while."""
        database = getattr(self.world, which)
        database.up = False
        self.world.pass_time(seconds)
        database.up = True

    @rule(which=st.sampled_from(["jobs", "outcomes"]), coming=fates)
    def lose_answers(self, which: str, coming: list[Fate]) -> None:
        """The next commands to a database, or their answers, are lost."""
        left = list(coming)
        getattr(self.world, which).fate = lambda _method: left.pop() if left else Fate.STORED

    # -- the invariants -----------------------------------------------------------------------------------------------

    @invariant()
    def what_has_ended_stays(self) -> None:
        """I2 and I3, after each step: one terminal transition, and never another status."""
        if not hasattr(self, "world"):
            return
        moved = [job_id for job_id, _ in self.world.jobs.moves]
        assert len(moved) == len(set(moved))
        for job_id, job in self.ended.items():
            assert self.world.jobs.jobs[job_id] == job
        self.ended = {job_id: job for job_id, job in self.world.jobs.jobs.items() if job.status.value in TERMINAL}

    def teardown(self) -> None:
        """All invariants, once everything has healed and come to rest."""
        if not hasattr(self, "world"):
            return
        try:
            self.world.broker.fate = lambda _message: Fate.STORED
            self.world.jobs.fate = self.world.outcomes.fate = lambda _method: Fate.STORED
            self.world.heal()
            self.world.rest()
            violations = judge(self.world.history, self.world.facts(), RULES)
            assert violations == []
        finally:
            self.world.close()


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """The services' logs would drown a story."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio_log = logging.getLogger("asyncio")
    level = asyncio_log.level
    asyncio_log.setLevel(logging.CRITICAL)
    yield
    asyncio_log.setLevel(level)
    structlog.configure(**before)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=STORIES,
    stateful_step_count=LONGEST,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def _recorded_outcome_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    record = FakeEndingStore.record

    async def recorded(_self: FakeEndingStore, _job_ids: object) -> dict[str, Any]:
        return {}

    async def record_and_ignore(self: FakeEndingStore, outcomes: Any) -> dict[str, Any]:
        await record(self, outcomes)
        return {}

    monkeypatch.setattr(FakeEndingStore, "recorded", recorded)
    monkeypatch.setattr(FakeEndingStore, "record", record_and_ignore)


def _no_unique_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.databases._same_place", lambda _one, _other: False)


def _no_rescue(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sweep(_self: object) -> int:
        return 0

    monkeypatch.setattr("api_server.outbox.Outbox.sweep", sweep)


def _no_conditional_update(monkeypatch: pytest.MonkeyPatch) -> None:
    async def apply(self: FakeJobStore, status: Any, outcomes: Any, _now: object) -> tuple[int, set[str]]:
        for outcome in outcomes:
            if (job := self.jobs.get(outcome.job_id)) is not None:
                self.jobs[outcome.job_id] = replace(job, status=status, sleep_time_used=outcome.sleep_time_used)
                self.due_at.pop(outcome.job_id, None)
        return len(outcomes), {outcome.job_id for outcome in outcomes} - set(self.jobs)

    monkeypatch.setattr(FakeJobStore, "apply", apply)


@pytest.mark.parametrize("remove", [_recorded_outcome_ignored, _no_unique_index, _no_rescue, _no_conditional_update])
def test_the_model_misses_a_guard(
    remove: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot fail proves nothing: without a safeguard it finds a story soon."""
    remove(monkeypatch)
    few = settings(TestLife.settings, max_examples=400, phases=[Phase.generate], derandomize=True, database=None)

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(Life, settings=few)
