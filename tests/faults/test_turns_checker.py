"""The judge of handlers' jobs: silent about a clean run, and not about any breach of I9 to I12."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checker import Facts, Rules
from tests.chaos.evidence import EndingDoc, RunDoc, TaskDoc, read_runs
from tests.chaos.history import Cancel, Fault, History, TaskPost
from tests.chaos.turns import judge

RULES = Rules(cooldown_s=10, fault_grace_s=20)
POST = TaskPost(100, 101, "flaky", "m-1", ("finished",), 201, "job-1", attempts=4)
TASK = TaskDoc(
    "job-1", "flaky", "\x1fjob-1", "m-1", "finished", 100.5, 103, 2, output='{"job": "job-1"}', past=((1, 1),)
)
AGAIN = EndingDoc("job-1", 1, "processing", 1, 101.1, 1, 100.9, 101, delay_s=0.5)
FINAL = EndingDoc("job-1", 2, "finished", 2, 102.8, 1, 102, 102.5)
FIRST_RUN = RunDoc("job-1", "flaky", 1, 1, 7, 100.9, 101, 101)
SECOND_RUN = RunDoc("job-1", "flaky", 2, 1, 7, 102, 102.5, 103)
KEYED = TaskDoc("job-2", "keyed", "keyed\x1fx", "m-2", "finished", 110, 111, output='{"job": "job-2"}')
KEYED_END = EndingDoc("job-2", 1, "finished", 1, 110.9, 1, 110.2, 110.8)
GONE = TaskDoc("job-3", "quick", "\x1fjob-3", "m-3", "cancelled", 120.5, 121.5)
GONE_END = EndingDoc("job-3", 1, "cancelled", 1, 121.2, run=0)
FAULT = Fault(0, "child killed", began=100, healed=102)

Case = tuple["History", "Facts"]


def clean() -> Case:
    """A job that failed once and then finished, one with a key and a refusal, and one that was cancelled in time."""
    history = History(
        tasks=[
            POST,
            TaskPost(109, 110.1, "keyed", "m-2", ("finished",), 201, "job-2", place="keyed\x1fx"),
            TaskPost(111.5, 111.6, "keyed", "m-9", ("finished",), 409, "job-2", place="keyed\x1fx"),
            TaskPost(120, 120.6, "quick", "m-3", ("finished",), 201, "job-3", delay_s=9),
            TaskPost(130, 131, "quick", "m-4", ("finished",), None),
        ],
        cancels=[Cancel(121, 121.1, "job-3", 202, "processing"), Cancel(140, 141, "job-1", 200, "finished")],
    )
    facts = Facts(
        tasks=[TASK, KEYED, GONE],
        endings=[AGAIN, FINAL, KEYED_END, GONE_END],
        runs=[FIRST_RUN, SECOND_RUN, RunDoc("job-2", "keyed", 1, 1, 7, 110.2, 110.8, 111)],
    )
    return history, facts


def test_a_clean_run_has_no_violation() -> None:
    """Attempts, refusals, silence, a job cancelled before its time and one cancelled after its end."""
    assert judge(*clean(), RULES) == []


def _tasks(*tasks: TaskDoc) -> Callable[[History, Facts], Case]:
    """The first ones replace those with their ids."""

    def change(history: History, facts: Facts) -> Case:
        return history, replace(facts, tasks=list({task.job_id: task for task in [*facts.tasks, *tasks]}.values()))

    return change


def _endings(*endings: EndingDoc) -> Callable[[History, Facts], Case]:
    return lambda history, facts: (history, replace(facts, endings=endings))


def _runs(*runs: RunDoc) -> Callable[[History, Facts], Case]:
    return lambda history, facts: (history, replace(facts, runs=[*facts.runs, *runs]))


def _cancels(*cancels: Cancel) -> Callable[[History, Facts], Case]:
    return lambda history, facts: (replace(history, cancels=[*history.cancels, *cancels]), facts)


def _asked(*posts: TaskPost) -> Callable[[History, Facts], Case]:
    return lambda history, facts: (replace(history, tasks=[*history.tasks, *posts]), facts)


LOST = replace(TASK, status="failed", reason="lost", output=None)
BREACHES: dict[str, tuple[str, Callable[[History, Facts], Case]]] = {
    "a promised job does not exist": ("I1", _asked(replace(POST, job_id="job-9", mark="m-9"))),
    "a promised job is another one": ("I1", _tasks(replace(TASK, mark="m-8"))),
    "a job never ends": ("I1", _tasks(replace(TASK, status="processing"))),
    "a terminal job is due": ("I6", _tasks(replace(TASK, due=True))),
    "two jobs of a key at once": (
        "I4",
        _tasks(replace(KEYED, ended_at=119), replace(KEYED, job_id="job-5", created_at=115)),
    ),
    "two jobs of a key in its cooldown": ("I4", _tasks(replace(KEYED, job_id="job-5", created_at=111.5))),
    "a refusal without a job in the way": (
        "I4",
        _asked(TaskPost(150, 151, "keyed", "m-8", ("finished",), 409, place="keyed\x1fx")),
    ),
    "a refused request made a job": ("I5", _asked(TaskPost(150, 151, "quick", "m-3", ("finished",), 422))),
    "one request made two jobs": ("I5", _tasks(replace(GONE, job_id="job-5"))),
    "a POST makes a 500": ("I8", _asked(TaskPost(150, 151, "quick", "m-8", ("finished",), 500))),
    "a turn has two endings": ("I9", _endings(AGAIN, FINAL, FINAL, KEYED_END, GONE_END)),
    "a turn follows a final ending": ("I9", _endings(replace(AGAIN, status="failed"), FINAL, KEYED_END, GONE_END)),
    "a turn is left out": ("I9", _endings(AGAIN, replace(FINAL, number=3), KEYED_END, GONE_END)),
    "a terminal job has no ending": ("I9", _endings(AGAIN, FINAL, KEYED_END)),
    "an attempt is counted twice": ("I9", _endings(AGAIN, replace(FINAL, attempt=3), KEYED_END, GONE_END)),
    "the databases tell different ends": ("I9", _endings(AGAIN, replace(FINAL, status="failed"), KEYED_END, GONE_END)),
    "a turn begins before its time": ("I9", _endings(replace(AGAIN, delay_s=5), FINAL, KEYED_END, GONE_END)),
    "a job begins before its time": (
        "I9",
        lambda h, f: (replace(h, tasks=[replace(POST, delay_s=5), *h.tasks[1:]]), f),
    ),
    "more attempts than asked for": (
        "I9",
        lambda h, f: (replace(h, tasks=[replace(POST, attempts=1), *h.tasks[1:]]), f),
    ),
    "a run follows the outcome": ("I9", _runs(replace(SECOND_RUN, run=2, started=109, ended=109.5))),
    "nobody asked for a cancellation": ("I10", lambda h, f: (replace(h, cancels=h.cancels[1:]), f)),
    "a cancelled job begins": ("I10", _runs(RunDoc("job-3", "quick", 1, 1, 7, 122, 123, 123))),
    "a cancelled job does not end": ("I10", _tasks(replace(GONE, ended_at=190))),
    "an ended job changes": ("I10", _cancels(Cancel(140, 141, "job-1", 200, "failed"))),
    "a cancellation is not found": ("I10", _cancels(Cancel(140, 141, "job-1", 404))),
    "two runs overlap": ("I11", _runs(replace(SECOND_RUN, run=2, started=102.2))),
    "a second run looks like the first": ("I11", _runs(replace(SECOND_RUN, started=102.7, ended=102.8))),
    "a neighbour is lost": ("I12", _tasks(LOST)),
    "an output is another job's": ("I12", _tasks(replace(TASK, output='{"job": "job-2"}'))),
}


@pytest.mark.parametrize("name", BREACHES)
def test_the_judge_objects(name: str) -> None:
    """Each breach is found, and under its own invariant."""
    invariant, breach = BREACHES[name]

    violations = judge(*breach(*clean()), RULES)

    assert invariant in {violation.invariant for violation in violations}


def test_a_fault_excuses_what_only_it_can_cause() -> None:
    """An overlap that the later run can see; not a run that looks like the first."""
    history, facts = _runs(replace(SECOND_RUN, run=2, started=102.2))(*clean())
    history.faults.append(FAULT)
    assert judge(history, facts, RULES) == []

    history, facts = _runs(replace(SECOND_RUN, started=102.2))(*clean())
    history.faults.append(FAULT)
    assert [violation.invariant for violation in judge(history, facts, RULES)] == ["I11"]


@pytest.mark.parametrize("dispatches", [1, 2])
def test_a_turn_dispatched_again_may_overlap_later(dispatches: int) -> None:
    """So its runs may overlap long after the fault that had it dispatched again, and not without one."""
    late = replace(SECOND_RUN, run=2, started=152, ended=152.5, alive=153), replace(SECOND_RUN, run=2, started=152.2)
    task = replace(TASK, dispatches=dispatches, ended_at=154)
    history, facts = _tasks(task)(*_runs(*late)(*clean()))

    def found() -> set[str]:
        return {violation.invariant for violation in judge(history, facts, RULES)}

    assert "I11" in found()
    history.faults.append(FAULT)
    assert ("I11" in found()) is (dispatches == 1)


def test_a_job_that_waits_never_begins_whatever_happens() -> None:
    """It was cancelled before its time, so it was never published."""
    history, facts = _runs(RunDoc("job-3", "quick", 1, 1, 7, 129.6, 130, 130))(*clean())
    history.faults.append(replace(FAULT, began=120, healed=130))

    assert [violation.invariant for violation in judge(history, facts, RULES)] == ["I10"]


def test_notes_of_handlers_are_read(tmp_path: Path) -> None:
    """A run without an end lasted as long as its process was alive; a torn line is left out."""
    start = '{"what": "start", "at": %s, "pid": 7, "kind": "quick", "job_id": "%s", "attempt": 1, "run": %d}\n'
    end = '{"what": "end", "at": 2.5, "pid": 7, "job_id": "a", "attempt": 1, "run": 1}\n'
    lines = [start % (1, "a", 1), start % (2, "b", 1), end, start % (3, "a", 2), '{"what": "alive", "at": 4}\n', '{"wh']
    (tmp_path / "7-1.jsonl").write_text("".join(lines))

    runs = read_runs(tmp_path)

    assert [(run.job_id, run.run, run.ended, run.until) for run in runs] == [
        ("a", 1, 2.5, 2.5),
        ("b", 1, None, 4),
        ("a", 2, None, 4),
    ]
