"""The judge itself: silent about a clean run, and not about any breach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checker import (
    Consumer,
    DeadLetterDoc,
    Facts,
    JobDoc,
    OutcomeDoc,
    Process,
    Rules,
    Violation,
    Vitals,
    judge,
)
from tests.chaos.history import Fault, History, Post, Sent, Sight
from tests.chaos.timeline import tell

RULES = Rules(cooldown_s=10)
JOB = JobDoc("job-1", "x", 1, "finished", 100.5, 0.2, 1, due=False)
OUTCOME = OutcomeDoc("job-1", "x", "finished", 0.2, "w", 1)
POST = Post(100, 101, "x", 201, "job-1")
SIGHT = Sight(102, 102.1, "job-1", 200, "finished", 0.2, 100)
MALFORMED = Sent(100, "job:created", b"?", "malformed", dead_letter=True)
HELD = Vitals(rss_mib=60, descriptors=40, tasks=12)

Breach = tuple["History", "Facts"]


def clean() -> Breach:
    """Make a run in which all is as it should be: one job, a refusal, an unanswered request, a dead letter."""
    history = History(
        posts=[POST, Post(101, 101.1, "x", 400, "job-1", "wait"), Post(100, 104, "y", None)],
        sights=[Sight(101, 101.1, "job-1", 200, "processing", 0, 100), SIGHT],
        sent=[MALFORMED],
    )
    facts = Facts(
        jobs=[JOB, replace(JOB, job_id="job-2", object_id="y", status="cancelled", sleep_s=0.4)],
        outcomes=[OUTCOME, replace(OUTCOME, job_id="job-2", object_id="y", status="cancelled", sleep_s=0.4)],
        dead_letters=[DeadLetterDoc("job:created", b"?", "no JSON")],
        consumers=[Consumer("job-created-group", 0, 0)],
        processes=[Process("api-server-1", HELD, HELD, (-9, 0))],
        journalled=3,
    )
    return history, facts


def test_a_clean_run_has_no_violation() -> None:
    """Refusals within the cooldown, silence that made a job, a dead letter: all that is allowed."""
    history, facts = clean()

    assert judge(history, facts, RULES) == []


def _posts(*posts: Post) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (replace(history, posts=[*history.posts, *posts]), facts)


def _sights(*sights: Sight) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (replace(history, sights=[*history.sights, *sights]), facts)


def _jobs(*jobs: JobDoc) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (history, replace(facts, jobs=jobs))


def _more_jobs(*jobs: JobDoc) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (history, replace(facts, jobs=[*facts.jobs, *jobs]))


def _outcomes(*outcomes: OutcomeDoc) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (history, replace(facts, outcomes=[*facts.outcomes[1:], *outcomes]))


def _process(process: Process) -> Callable[[History, Facts], Breach]:
    return lambda history, facts: (history, replace(facts, processes=[process]))


SECOND = replace(JOB, job_id="job-3", run=2, created_at=109)
THIRD = replace(JOB, job_id="job-3", object_id="y", run=2, created_at=200)
OF_THIRD = replace(OUTCOME, job_id="job-3", object_id="y")

BREACHES: dict[str, tuple[str, Callable[[History, Facts], Breach]]] = {
    "a promised job does not exist": ("I1", _posts(Post(150, 151, "z", 201, "job-9"))),
    "a promised job is another object's": ("I1", _jobs(replace(JOB, object_id="other"))),
    "a job is never terminal": ("I1", _jobs(replace(JOB, status="processing"))),
    "a promised job is unknown to a later look": ("I1", _sights(Sight(103, 104, "job-1", 400))),
    "a write does not ask for the journal": ("I1", lambda h, f: (h, replace(f, not_journalled=1))),
    "two outcomes of a job": ("I2", _outcomes(OUTCOME, OUTCOME)),
    "no outcome of a terminal job": ("I2", _outcomes()),
    "an outcome of no job": ("I2", _outcomes(OUTCOME, replace(OUTCOME, job_id="job-8"))),
    "the two databases tell different statuses": ("I2", _outcomes(replace(OUTCOME, status="cancelled"))),
    "the two databases tell different lengths": ("I2", _outcomes(replace(OUTCOME, sleep_s=0.3))),
    "a status goes back": ("I3", _sights(replace(SIGHT, sent=103, ended=104, status="processing"))),
    "a terminal status changes": ("I3", _sights(replace(SIGHT, sent=103, ended=104, status="cancelled"))),
    "a length changes": ("I3", _sights(replace(SIGHT, sent=103, ended=104, sleep_s=9))),
    "the document differs from what was seen": ("I3", _jobs(replace(JOB, sleep_s=0.3))),
    "two documents of an object within its cooldown": ("I4", _more_jobs(SECOND)),
    "two promises for an object within its cooldown": ("I4", _posts(Post(103, 104, "x", 201, "job-3"))),
    "a refusal without a job in the way": ("I4", _posts(Post(130, 131, "x", 400, "job-1", "wait"))),
    "a creation outside of its request": ("I4", _jobs(replace(JOB, created_at=90))),
    "one unanswered request made two jobs": ("I5", _more_jobs(THIRD)),
    "a terminal job is still due": ("I6", _jobs(replace(JOB, due=True))),
    "a message is pending": ("I6", lambda h, f: (h, replace(f, consumers=[Consumer("c", 1, 0)]))),
    "a message is unacknowledged": ("I6", lambda h, f: (h, replace(f, consumers=[Consumer("c", 0, 1)]))),
    "memory grows": ("I6", _process(Process("p", HELD, replace(HELD, rss_mib=200)))),
    "descriptors grow": ("I6", _process(Process("p", HELD, replace(HELD, descriptors=140)))),
    "tasks grow": ("I6", _process(Process("p", HELD, replace(HELD, tasks=100)))),
    "malformed is not dead-lettered": ("I7", lambda h, f: (h, replace(f, dead_letters=[]))),
    "malformed is dead-lettered twice": (
        "I7",
        lambda h, f: (h, replace(f, dead_letters=[*f.dead_letters, *f.dead_letters])),
    ),
    "sense is dead-lettered": (
        "I7",
        lambda h, f: (h, replace(f, dead_letters=[*f.dead_letters, DeadLetterDoc("s", b"sense", "r")])),
    ),
    "a POST makes a 500": ("I8", _posts(Post(130, 131, "z", 500))),
    "a GET makes a 500": ("I8", _sights(Sight(130, 131, "job-1", 500))),
    "a process leaves unasked": ("I8", _process(Process("p", exits=(0, 1)))),
    "a log tells of the unforeseen": ("I8", _process(Process("p", troubles=("Traceback",)))),
}


@pytest.mark.parametrize("name", BREACHES)
def test_the_judge_objects(name: str) -> None:
    """Each breach is found, and under its own invariant."""
    invariant, breach = BREACHES[name]

    violations = judge(*breach(*clean()), RULES)

    assert invariant in {violation.invariant for violation in violations}


def test_requests_that_overlap_may_be_answered_in_any_order() -> None:
    """A request that waited beyond the cooldown was made after the other, though it was sent before it."""
    history, facts = clean()
    posts = [Post(100, 125, "x", 201, "job-3"), *history.posts]
    second = replace(JOB, job_id="job-3", run=2, created_at=120)
    found = replace(facts, jobs=[*facts.jobs, second], outcomes=[*facts.outcomes, replace(OUTCOME, job_id="job-3")])

    assert judge(replace(history, posts=posts), found, RULES) == []


def test_a_story_tells_what_happened_in_order(tmp_path: Path) -> None:
    """Requests, looks, documents, messages, log lines and faults around, whatever the violation names."""
    log = '{"job_id": "job-1", "event": "seen", "timestamp": "1970-01-01T00:01:41.500000Z"}\n'
    (tmp_path / "job-server-1.log").write_text(log)
    history, facts = clean()
    history.faults.append(Fault(7, "zombie", "job-server-1", began=99, healed=103))

    told = tell(Violation("I2", "job-1", "is wrong"), history, facts, tmp_path).splitlines()

    assert told[0] == "I2 job-1: is wrong"
    order = [
        "fault 7: zombie",
        "POST x -> 201 job-1",
        "api-server's document",
        "[job-server-1]",
        "GET job-1 -> 200 finished",
    ]
    found = [next(n for n, line in enumerate(told) if words in line) for words in order]
    assert found == sorted(found)
