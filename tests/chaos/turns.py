"""The judge of handlers' jobs: every breach of I9 to I12, and of I1, I4 and I5 where they are about such jobs.

Some invariants hold without a fault only. A breach of these is one where nothing was disturbed: no fault was in force,
or had healed a moment before, from the first thing that the breach is about to the last.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.chaos.checker import TERMINAL, Facts, Rules, Violation
from tests.chaos.evidence import EndingDoc, RunDoc, TaskDoc
from tests.chaos.history import Cancel, History, TaskPost

HEARD_WITHIN_S: Final = 0.5
"""How long after the answer to its cancellation a job may begin: the word travels to the workers meanwhile."""

ENDS_WITHIN_S: Final = 30.0
"""The grace of a handler that listens, and the time of all that must be stored until its job has ended."""

COOLDOWN_S: Final = {"keyed": 2.0}
"""The cooldown of each kind with a key, see `work/tasks.py`."""


@dataclass(frozen=True)
class Case:
    """A history and its facts, with what several invariants look up."""

    history: History
    facts: Facts
    rules: Rules
    tasks: dict[str, TaskDoc] = field(init=False)
    endings: dict[str, list[EndingDoc]] = field(init=False)
    runs: dict[str, list[RunDoc]] = field(init=False)
    cancels: dict[str, list[Cancel]] = field(init=False)
    posts: dict[str, TaskPost] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the facts by what they are about."""
        endings, runs, cancels = defaultdict(list), defaultdict(list), defaultdict(list)
        for ending in sorted(self.facts.endings, key=lambda ending: ending.number):
            endings[ending.job_id].append(ending)
        for run in sorted(self.facts.runs, key=lambda run: run.started):
            runs[run.job_id].append(run)
        for cancel in sorted(self.history.cancels, key=lambda cancel: cancel.sent):
            cancels[cancel.job_id].append(cancel)
        object.__setattr__(self, "tasks", {task.job_id: task for task in self.facts.tasks})
        object.__setattr__(self, "endings", dict(endings))
        object.__setattr__(self, "runs", dict(runs))
        object.__setattr__(self, "cancels", dict(cancels))
        posts = {post.job_id: post for post in self.history.tasks if post.accepted and post.job_id}
        object.__setattr__(self, "posts", posts)

    def undisturbed(self, since: float, until: float) -> bool:
        """Whether no fault was in force, or had healed a moment before, at any time from `since` to `until`."""
        grace = self.rules.fault_grace_s
        return not any(
            fault.began - 1 <= until and (fault.healed or until) + grace >= since for fault in self.history.faults
        )


def judge(history: History, facts: Facts, rules: Rules) -> list[Violation]:
    """Give every breach of every invariant, in their order."""
    case = Case(history, facts, rules)
    return [violation for invariant in INVARIANTS for violation in invariant(case)]


def promised_jobs_end(case: Case) -> Iterator[Violation]:
    """I1: a job that was answered 201 exists as it was posted; every job that exists is terminal, and not due."""
    for job_id, post in case.posts.items():
        task = case.tasks.get(job_id)
        if task is None:
            yield Violation("I1", job_id, "was answered 201 and does not exist")
        elif (task.kind, task.mark) != (post.kind, post.mark):
            yield Violation("I1", job_id, f"was promised for {post.mark} and is for {task.mark}")
    for task in case.tasks.values():
        if task.status not in TERMINAL:
            what = f"{task.kind} is still {task.status}, turn {task.turn}, dispatched {task.dispatches} times"
            yield Violation("I1", task.job_id, what)
        elif task.due:
            yield Violation("I6", task.job_id, f"is {task.status} and still due to be dispatched")


def one_job_per_key(case: Case) -> Iterator[Violation]:
    """I4: at most one job of a key at a time, and none within its cooldown; no refusal without a job in the way."""
    by_place: dict[str, list[TaskDoc]] = defaultdict(list)
    for task in sorted(case.tasks.values(), key=lambda task: task.created_at):
        by_place[task.place].append(task)
    for place, tasks in by_place.items():
        for first, second in pairwise(tasks):
            # The end was noted by another process, perhaps, whose idea of the time differs.
            ended_at = (first.ended_at or float("inf")) - case.rules.clock_tolerance_s
            free_at = max(first.created_at + COOLDOWN_S.get(first.kind, 0), ended_at)
            if second.created_at < free_at - 0.002:
                what = f"{first.job_id} and {second.job_id} were there together, by {free_at - second.created_at:.3f} s"
                yield Violation("I4", place, what)
    for post in case.history.tasks:
        if post.status != 409:
            continue
        tolerance = case.rules.clock_tolerance_s
        if not any(
            task.created_at <= post.ended + tolerance
            and max(task.created_at + COOLDOWN_S.get(task.kind, 0), task.ended_at or float("inf"))
            >= post.sent - tolerance
            for task in by_place.get(post.place, ())
        ):
            yield Violation("I4", post.place, f"was refused ({post.text}) though no job was in the way")


def one_job_per_request(case: Case) -> Iterator[Violation]:
    """I5: a request makes one job if it was accepted, at most one if it got no answer, and none if it was refused."""
    made = Counter(task.mark for task in case.tasks.values())
    for post in case.history.tasks:
        most = 1 if post.accepted or post.unanswered or post.tries > 1 else 0
        if made[post.mark] > most:
            what = f"{post.kind} was answered {post.status} and made {made[post.mark]} jobs"
            yield Violation("I5", post.mark, what)
        if post.status == 500:
            yield Violation("I8", post.mark, f"a POST was answered 500: {post.text}")


def turns_follow_each_other(case: Case) -> Iterator[Violation]:
    """I9: each turn has one ending; the next one exists because it said again; nothing follows a final ending."""
    counted = Counter((ending.job_id, ending.number) for ending in case.facts.endings)
    for (job_id, number), count in counted.items():
        if count > 1:
            yield Violation("I9", job_id, f"turn {number} has {count} endings")
    for job_id, endings in case.endings.items():
        task = case.tasks.get(job_id)
        if task is None:
            yield Violation("I2", job_id, "has an ending and is no job")
            continue
        for what in _wrong_turns(task, endings):
            yield Violation("I9", job_id, what)
        for what in _wrong_times(case, task, endings):
            yield Violation("I9", job_id, what)
    for task in case.tasks.values():
        if task.status in TERMINAL and task.job_id not in case.endings:
            yield Violation("I9", task.job_id, f"is {task.status} and none of its turns has an ending")


def _wrong_turns(task: TaskDoc, endings: list[EndingDoc]) -> Iterator[str]:
    numbers = [ending.number for ending in endings]
    if numbers != list(range(1, len(endings) + 1)):
        yield f"its turns with an ending are {numbers}"
    for ending in endings[:-1]:
        if ending.status in TERMINAL:
            yield f"turn {ending.number} ended as {ending.status}, and turn {endings[-1].number} followed"
    for first, second in pairwise(endings):
        if second.attempt != first.attempt + first.counts:
            yield f"turn {second.number} was attempt {second.attempt} after attempt {first.attempt}"
    last = endings[-1]
    if task.status in TERMINAL and (task.status, task.reason, task.turn) != (last.status, last.reason, last.number):
        yield (
            f"api-server says {task.status} {task.reason} in turn {task.turn}, job-server {last.status} {last.reason} "
            f"in turn {last.number}"
        )
    before = tuple((ending.number, ending.attempt) for ending in endings[:-1])[-25:]
    if task.status in TERMINAL and task.past != before:
        yield f"api-server knows the turns {task.past} before the last one, job-server {before}"


def _wrong_times(case: Case, task: TaskDoc, endings: list[EndingDoc]) -> Iterator[str]:
    post = case.posts.get(task.job_id)
    # Services read the database's time with some error.
    early_s = case.rules.clock_tolerance_s
    if post is not None and endings[-1].attempt > post.attempts:
        yield f"had {endings[-1].attempt} attempts of {post.attempts}"
    first = endings[0]
    if post is not None and first.run and first.started_at < task.created_at + post.delay_s - early_s:
        yield f"began {task.created_at + post.delay_s - first.started_at:.3f} s before it was due"
    for before, after in pairwise(endings):
        due = before.ended_at + before.delay_s
        if after.run and after.started_at < due - early_s:
            yield f"turn {after.number} began {due - after.started_at:.3f} s before it was due"
    final = endings[-1]
    if final.status not in TERMINAL:
        return
    for run in case.runs.get(task.job_id, ()):
        # The record's time is in whole milliseconds, and from before it was stored.
        if run.started > final.recorded_at + 0.01 and case.undisturbed(task.created_at, run.started):
            yield f"attempt {run.attempt} began {run.started - final.recorded_at:.3f} s after the job's outcome"


def cancelled_jobs_stop(case: Case) -> Iterator[Violation]:
    """I10: a job that was cancelled before it began never begins, a running one ends, and an ended one stays."""
    for job_id, task in case.tasks.items():
        if task.status == "cancelled" and job_id not in case.cancels:
            yield Violation("I10", job_id, f"{task.kind} was cancelled and nobody asked for it")
    for job_id, cancels in case.cancels.items():
        cancelled = case.tasks.get(job_id)
        if cancelled is None:
            continue
        for cancel in cancels:
            for what in _not_stopped(case, cancelled, cancel):
                yield Violation("I10", job_id, what)


def _not_stopped(case: Case, task: TaskDoc, cancel: Cancel) -> Iterator[str]:
    if cancel.code == 200:
        if cancel.seen != task.status:
            yield f"had ended as {cancel.seen} when it was to be cancelled, and is {task.status}"
        return
    if cancel.code != 202:
        if cancel.code is not None and cancel.code < 500 and cancel.code != 429:
            yield f"its cancellation was answered {cancel.code}"
        return
    post = case.posts.get(task.job_id)
    due = task.created_at + (0 if post is None else post.delay_s)
    for run in case.runs.get(task.job_id, ()):
        if run.started <= cancel.ended + HEARD_WITHIN_S:
            continue
        # What waits for its time was never published, so that no fault can have it begin.
        waited = due > cancel.ended + 1
        if waited or case.undisturbed(cancel.sent, run.started):
            yield f"attempt {run.attempt} began {run.started - cancel.ended:.3f} s after the cancellation"
    ended = task.ended_at or float("inf")
    if ended > cancel.ended + ENDS_WITHIN_S and case.undisturbed(cancel.sent, cancel.ended + ENDS_WITHIN_S):
        yield f"{task.kind} had not ended {ENDS_WITHIN_S:g} s after it was cancelled"


def runs_do_not_overlap(case: Case) -> Iterator[Violation]:
    """I11: without a fault no two runs of a job overlap; after one, all runs of a turn but one can see it."""
    for job_id, runs in case.runs.items():
        task = case.tasks.get(job_id)
        for n, second in enumerate(runs):
            for first in runs[:n]:
                # A turn that a fault has had dispatched again has two messages until it ends.
                since = first.started if task is None or task.dispatches == 1 else task.created_at
                if second.started < first.until and case.undisturbed(since, second.started):
                    overlap = first.until - second.started
                    yield Violation("I11", job_id, f"two runs overlapped by {overlap:.3f} s, without a fault")
                # One that snoozes has many turns in an attempt.
                same_turn = second.attempt == first.attempt and second.kind != "snoozes"
                if same_turn and first.run == second.run == 1:
                    yield Violation("I11", job_id, f"attempt {second.attempt} began again as if for the first time")


def harm_stays_where_it_is(case: Case) -> Iterator[Violation]:
    """I12: whatever other handlers do, a job comes to an end that its handler meant, with its own output."""
    for job_id, post in case.posts.items():
        task = case.tasks.get(job_id)
        if task is None or task.status not in TERMINAL:
            continue
        end = f"{task.status}/{task.reason}" if task.reason else task.status
        until = task.ended_at or task.created_at
        asked = job_id in case.cancels
        if end == "failed/lost" and post.kind == "once" and case.undisturbed(task.created_at, until):
            yield Violation("I12", job_id, "was lost, though nothing was disturbed")
        elif end not in post.expected and not (asked and task.status == "cancelled"):
            yield Violation("I12", job_id, f"{post.kind} came to {end}, expected {' or '.join(post.expected)}")
        if task.status == "finished":
            output = json.loads(task.output or "null")
            if (
                not isinstance(output, dict)
                or output.get("job") != job_id
                or output.get("mark", post.mark) != post.mark
            ):
                yield Violation("I12", job_id, f"has the output {task.output}")


INVARIANTS: Final[tuple[Callable[[Case], Iterator[Violation]], ...]] = (
    promised_jobs_end,
    one_job_per_key,
    one_job_per_request,
    turns_follow_each_other,
    cancelled_jobs_stop,
    runs_do_not_overlap,
    harm_stays_where_it_is,
)
