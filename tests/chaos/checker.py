"""The judge: from a run's history and the facts at rest, every breach of the invariants I1 to I8.

Handlers' jobs, and I9 to I12, are judged in `turns.py`.

Nothing here asks a process anything: `facts.py` reads the databases, the broker, the probes and the logs, and this
module only compares. So each invariant can be seen to object to a made-up breach (`test_checker.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.chaos.evidence import EndingDoc, RunDoc, TaskDoc
from tests.chaos.history import History, Post, Sight

TERMINAL: Final = frozenset({"finished", "failed", "cancelled"})
CUT_AT: Final = 64 * 1024
"""A message dead-lettered is kept up to this many bytes."""


@dataclass(frozen=True, slots=True)
class JobDoc:
    """A job as the api-server's database has it; times are Unix seconds."""

    job_id: str
    object_id: str
    run: int
    status: str
    created_at: float
    sleep_s: float
    dispatches: int
    due: bool


@dataclass(frozen=True, slots=True)
class OutcomeDoc:
    """An outcome as the job-server's database has it."""

    job_id: str
    object_id: str
    status: str
    sleep_s: float
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class DeadLetterDoc:
    """A message that a service put where it can be read."""

    subject: str
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """What the broker still owes to a durable consumer."""

    name: str
    pending: int
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """What one process holds."""

    rss_mib: float
    descriptors: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the stack, early in the run and at its end, how it left meanwhile, and what its log complains."""

    name: str
    early: Vitals | None = None
    at_rest: Vitals | None = None
    exits: tuple[int, ...] = ()
    expected_exits: frozenset[int] = frozenset({0, -9})
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is read once everything has healed; `tasks`, `endings` and `runs` are about handlers' jobs."""

    jobs: Sequence[JobDoc] = ()
    outcomes: Sequence[OutcomeDoc] = ()
    dead_letters: Sequence[DeadLetterDoc] = ()
    consumers: Sequence[Consumer] = ()
    processes: Sequence[Process] = ()
    journalled: int = 0
    not_journalled: int = 0
    not_journalled_example: str = ""
    tasks: Sequence[TaskDoc] = ()
    endings: Sequence[EndingDoc] = ()
    runs: Sequence[RunDoc] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the run was set to, and how exactly the checker can see."""

    cooldown_s: float
    clock_tolerance_s: float = 1.0
    """How far a service's idea of the time may be from this process's: the time one answer of the database takes."""
    fault_grace_s: float = 20
    """For so long after its healing a fault may have consequences that none may have without one."""
    rss_growth_mib: float = 48
    descriptor_growth: int = 40
    task_growth: int = 24


@dataclass(frozen=True, slots=True)
class Violation:
    """A invariant, whom the breach is about (a job, an object, a process), and what is wrong."""

    invariant: str
    about: str
    what: str

    def __str__(self) -> str:
        """Give it in one line."""
        return f"{self.invariant} {self.about}: {self.what}"


@dataclass(frozen=True)
class Case:
    """A history and its facts, with what several invariants look up."""

    history: History
    facts: Facts
    rules: Rules
    jobs: dict[str, JobDoc] = field(init=False)
    outcomes: dict[str, OutcomeDoc] = field(init=False)
    posts_of: dict[str, list[Post]] = field(init=False)
    jobs_of: dict[str, list[JobDoc]] = field(init=False)
    sights_of: dict[str, list[Sight]] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the facts by what they are about."""
        posts_of, jobs_of, sights_of = defaultdict(list), defaultdict(list), defaultdict(list)
        for post in self.history.posts:
            posts_of[post.object_id].append(post)
        for job in sorted(self.facts.jobs, key=lambda job: job.created_at):
            jobs_of[job.object_id].append(job)
        for sight in sorted(self.history.sights, key=lambda sight: sight.sent):
            sights_of[sight.job_id].append(sight)
        object.__setattr__(self, "jobs", {job.job_id: job for job in self.facts.jobs})
        object.__setattr__(self, "outcomes", {outcome.job_id: outcome for outcome in self.facts.outcomes})
        object.__setattr__(self, "posts_of", dict(posts_of))
        object.__setattr__(self, "jobs_of", dict(jobs_of))
        object.__setattr__(self, "sights_of", dict(sights_of))


def judge(history: History, facts: Facts, rules: Rules) -> list[Violation]:
    """Give every breach of every invariant, in the order of the invariants."""
    case = Case(history, facts, rules)
    return [violation for invariant in INVARIANTS for violation in invariant(case)]


def promised_jobs_end(case: Case) -> Iterator[Violation]:
    """I1: a job that was answered 201 exists and is terminal; so is every other job there is."""
    for job_id, post in case.history.accepted().items():
        job = case.jobs.get(job_id)
        if job is None:
            yield Violation("I1", job_id, "was answered 201 and does not exist")
        elif job.object_id != post.object_id:
            yield Violation("I1", job_id, f"was promised for {post.object_id!r} and is for {job.object_id!r}")
    for job in case.facts.jobs:
        if job.status not in TERMINAL:
            yield Violation("I1", job.job_id, f"is still {job.status} (dispatched {job.dispatches} times)")
    accepted = case.history.accepted()
    for job_id, sights in case.sights_of.items():
        for sight in sights:
            if sight.code in {400, 404} and job_id in accepted and accepted[job_id].ended < sight.sent:
                yield Violation("I1", job_id, f"was answered 201 and then {sight.code} to a GET")


def one_outcome_each(case: Case) -> Iterator[Violation]:
    """I2: both databases tell the same single outcome."""
    counted = Counter(outcome.job_id for outcome in case.facts.outcomes)
    for job_id, count in counted.items():
        if count > 1:
            yield Violation("I2", job_id, f"has {count} outcomes")
        if job_id not in case.jobs:
            yield Violation("I2", job_id, "has an outcome and is no job")
    for job in case.facts.jobs:
        outcome = case.outcomes.get(job.job_id)
        if job.status not in TERMINAL:
            continue
        if outcome is None:
            yield Violation("I2", job.job_id, f"is {job.status} and the job-server recorded no outcome")
        elif (job.status, job.sleep_s) != (outcome.status, outcome.sleep_s):
            yield Violation(
                "I2",
                job.job_id,
                f"api-server says {job.status} after {job.sleep_s} s, job-server {outcome.status} after "
                f"{outcome.sleep_s} s",
            )


def never_back(case: Case) -> Iterator[Violation]:
    """I3: what a caller saw as terminal stays, in status, length and creation."""
    for job_id, sights in case.sights_of.items():
        ended: Sight | None = None
        for sight in sights:
            if sight.code != 200:
                continue
            if ended is not None and sight.sent > ended.ended and _told(sight) != _told(ended):
                yield Violation("I3", job_id, f"was seen as {_told(ended)} and later as {_told(sight)}")
            if sight.status in TERMINAL and ended is None:
                ended = sight
        job = case.jobs.get(job_id)
        if ended is not None and job is not None and (job.status, job.sleep_s) != (ended.status, ended.sleep_s):
            yield Violation("I3", job_id, f"was seen as {_told(ended)} and is {job.status} after {job.sleep_s} s")


def one_job_per_cooldown(case: Case) -> Iterator[Violation]:
    """I4: no two jobs of an object within the cooldown, and no refusal without a job in the way."""
    cooldown, tolerance = case.rules.cooldown_s, case.rules.clock_tolerance_s
    for object_id, jobs in case.jobs_of.items():
        for first, second in pairwise(jobs):
            # Both times went into the second decision, so they need no tolerance beyond their milliseconds.
            if second.created_at - first.created_at < cooldown - 0.002:
                apart = second.created_at - first.created_at
                yield Violation("I4", object_id, f"{first.job_id} and {second.job_id} are {apart:.3f} s apart")
    for object_id, posts in case.posts_of.items():
        accepted = sorted((post for post in posts if post.accepted), key=lambda post: post.sent)
        for earlier, later in pairwise(accepted):
            # Each was made between its request and its answer: this is the farthest apart they can be.
            apart = max(earlier.ended, later.ended) - earlier.sent
            if apart < cooldown - tolerance:
                yield Violation(
                    "I4", object_id, f"{earlier.job_id} and {later.job_id} were both accepted in {apart:.2f} s"
                )
        yield from _refusals(case, object_id, posts)


def _refusals(case: Case, object_id: str, posts: Sequence[Post]) -> Iterator[Violation]:
    cooldown, tolerance = case.rules.cooldown_s, case.rules.clock_tolerance_s
    jobs = case.jobs_of.get(object_id, [])
    for post in posts:
        if post.status == 400 and not any(
            post.sent - cooldown - tolerance <= job.created_at <= post.ended + tolerance for job in jobs
        ):
            yield Violation("I4", object_id, f"was refused ({post.text}) though no job was in the way")
        if post.accepted and post.job_id in case.jobs:
            created_at = case.jobs[post.job_id].created_at
            if not post.sent - tolerance <= created_at <= post.ended + tolerance:
                off = created_at - post.sent
                yield Violation("I4", object_id, f"{post.job_id} claims to be made {off:+.2f} s from its request")


def silence_makes_at_most_one(case: Case) -> Iterator[Violation]:
    """I5: jobs nobody was promised are at most as many as the requests that got no answer."""
    promised = set(case.history.accepted())
    for object_id, jobs in case.jobs_of.items():
        unanswered = sum(post.unanswered for post in case.posts_of.get(object_id, ()))
        unpromised = [job.job_id for job in jobs if job.job_id not in promised]
        if len(unpromised) > unanswered:
            yield Violation("I5", object_id, f"{unanswered} requests without an answer made the jobs {unpromised}")


def nothing_left(case: Case) -> Iterator[Violation]:
    """I6: nothing due, pending or unacknowledged, and every process holds about what it held."""
    for job in case.facts.jobs:
        if job.due and job.status in TERMINAL:
            yield Violation("I6", job.job_id, f"is {job.status} and still due to be dispatched")
    for consumer in case.facts.consumers:
        if consumer.pending or consumer.unacknowledged:
            what = f"{consumer.pending} messages pending, {consumer.unacknowledged} unacknowledged at rest"
            yield Violation("I6", consumer.name, what)
    rules = case.rules
    for process in case.facts.processes:
        early, rest = process.early, process.at_rest
        if early is None or rest is None:
            continue
        if rest.rss_mib > early.rss_mib + rules.rss_growth_mib:
            yield Violation("I6", process.name, f"memory went from {early.rss_mib:.0f} to {rest.rss_mib:.0f} MiB")
        if rest.descriptors > early.descriptors + rules.descriptor_growth:
            yield Violation("I6", process.name, f"descriptors went from {early.descriptors} to {rest.descriptors}")
        if rest.tasks > early.tasks + rules.task_growth:
            yield Violation("I6", process.name, f"tasks went from {early.tasks} to {rest.tasks}")


def malformed_is_dead_letter(case: Case) -> Iterator[Violation]:
    """I7: each message that cannot be understood is dead-lettered once, and no other message is."""
    expected = Counter(sent.data[:CUT_AT] for sent in case.history.sent if sent.dead_letter)
    found = Counter(doc.data for doc in case.facts.dead_letters)
    why = {sent.data[:CUT_AT]: sent for sent in case.history.sent}
    for data, count in (expected - found).items():
        yield Violation("I7", why[data].subject, f"{why[data].why}: found dead-lettered {count} times too few")
    for doc in {doc.data: doc for doc in case.facts.dead_letters}.values():
        if doc.data not in expected:
            yield Violation("I7", doc.subject, f"dead-lettered without reason ({doc.reason}): {doc.data[:200]!r}")
        elif found[doc.data] > expected[doc.data]:
            yield Violation("I7", doc.subject, f"dead-lettered {found[doc.data]} times ({doc.reason})")


def nobody_dies_of_it(case: Case) -> Iterator[Violation]:
    """I8: no answer is a 500, no process leaves but by a fault that allows it, no log tells of an error unforeseen."""
    for post in case.history.posts:
        if post.status == 500:
            yield Violation("I8", post.object_id, f"a POST was answered 500: {post.text}")
    for sight in case.history.sights:
        if sight.code == 500:
            yield Violation("I8", sight.job_id, "a GET was answered 500")
    for process in case.facts.processes:
        for code in process.exits:
            if code not in process.expected_exits:
                yield Violation("I8", process.name, f"left with {code}, which no fault explains")
        for trouble in process.troubles:
            yield Violation("I8", process.name, f"its log says: {trouble}")


def writes_ask_for_the_disk(case: Case) -> Iterator[Violation]:
    """I1: a promise rests on a write that was asked to be on disk, so every write asks for it."""
    if case.facts.not_journalled:
        what = f"{case.facts.not_journalled} writes did not ask for the journal: {case.facts.not_journalled_example}"
        yield Violation("I1", "writes", what)


INVARIANTS: Final[tuple[Callable[[Case], Iterator[Violation]], ...]] = (
    promised_jobs_end,
    writes_ask_for_the_disk,
    one_outcome_each,
    never_back,
    one_job_per_cooldown,
    silence_makes_at_most_one,
    nothing_left,
    malformed_is_dead_letter,
    nobody_dies_of_it,
)


def _told(sight: Sight) -> str:
    return f"{sight.status} after {sight.sleep_s} s, made at {sight.timestamp}"
