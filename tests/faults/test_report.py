"""The page: what several runs measured, added up, and nothing that no run measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.chaos import figures, report, three_nodes_report
from tests.chaos.checker import Facts, Process, Violation, Vitals
from tests.chaos.history import Fault, History, Post
from tests.chaos.plan import Outcome, Plan
from tests.faults.test_checker import JOB, OUTCOME
from tests.faults.test_turns_checker import AGAIN, FINAL, POST, TASK

HELD = Vitals(60, 40, 12)


def _outcome(folder: Path, seed: int) -> Outcome:
    """A run with two zombies, one of which was alone, and one fault that was not reached."""
    history = History(
        posts=[Post(100, 101, "x", 201, "job-1"), Post(100, 101, "x", 400), Post(100, 101, "y", None)],
        tasks=[POST],
        faults=[
            Fault(0, "zombie", in_flight=10, recovery_s=2.5, bystanders=frozenset({"job-1"})),
            Fault(1, "zombie", in_flight=20, recovery_s=99, alone=False),
            Fault(2, "garbage", reached=False),
        ],
    )
    facts = Facts(
        jobs=[JOB],
        outcomes=[replace(OUTCOME, attempt=2)],
        tasks=[TASK],
        endings=[AGAIN, FINAL],
        processes=[Process("api-server-1", HELD, HELD, (-9,))],
        journalled=7,
    )
    plan = Plan(seed=seed, folder=folder, seconds=60)
    return Outcome(plan, history, facts, [], [], {"broker disk full": "no root"}, {"garbage": 1}, 61.5)


def test_runs_add_up(tmp_path: Path) -> None:
    """Two runs of one zombie alone and one in company each."""
    for seed in (1, 2):
        figures.keep(_outcome(tmp_path, seed), tmp_path)

    runs = figures.load(tmp_path)
    page = report.page(runs)

    assert [run["seed"] for run in runs] == [1, 2]
    assert "**4 faults of 1 kinds were injected into running systems while they" in page
    assert "accepted 4 jobs: 0 violations.** 2 of these jobs were for handlers" in " ".join(page.split())
    row = next(line for line in page.splitlines() if line.startswith("| zombie "))
    assert row.endswith("| 4 | 4 | 15 / 20 | 2 | 2.5 | 2.5 | 2.5 |")
    assert "Not reached, and not counted above: garbage 2." in page
    assert "could not be injected: broker disk full: no root" in page
    assert "`python -m tests.chaos run --seed 1 --minutes 1 --rate 60 --task-rate 0`" in page


def test_a_violation_is_told(tmp_path: Path) -> None:
    """It stands in the total, in the matrix and in words."""
    broken = replace(_outcome(tmp_path, 1), violations=[Violation("I2", "job-1", "has 2 outcomes")])
    figures.keep(broken, tmp_path)

    page = report.page(figures.load(tmp_path))

    assert ": 1 violations.**" in " ".join(page.split())
    assert "- 1 times: I2, job: has 2 outcomes" in page


def test_earlier_runs_are_told_apart(tmp_path: Path) -> None:
    """They stand beside the total, in the list of runs, with what they found, and beside the latest in the matrix."""
    earlier = tmp_path / "before"
    figures.keep(_outcome(tmp_path, 1), tmp_path)
    figures.keep(replace(_outcome(tmp_path, 2), violations=[Violation("I8", "job-1", "left")]), earlier)

    page = report.page(figures.load(tmp_path), before=figures.load(earlier))

    told = " ".join(page.split())
    assert "**2 faults of 1 kinds" in told
    assert ": 0 violations.**" in told
    assert "there were 2 faults and 2 accepted jobs, with 1 violations" in told
    assert "run --seed 2" in page
    assert "| 2 | 4 | 15 / 20 |" in page


def test_recovery_figures(tmp_path: Path) -> None:
    """The median and the worst of what was measured, beside what is promised."""
    figures.keep(_outcome(tmp_path, 1), tmp_path)
    name = "after a broker restart work goes on"
    figures.keep_recovery({name: [0.5, 3.25, 1.0]}, tmp_path)

    page = report.page(figures.load(tmp_path), figures.load_recovery(tmp_path))

    assert f"| {name} | 5 | 1.0 | 3.2 |" in page
    assert json.loads((tmp_path / "recovery.json").read_text())["times"] == 3


def test_pauses_of_three_nodes(tmp_path: Path) -> None:
    """The median and the longest, and the command that measured them."""
    figures.keep(_outcome(tmp_path, 1), tmp_path)
    three_nodes_report.keep({"a follower is killed": [0.25, 0.5, 0.125]}, tmp_path)

    page = report.page(
        figures.load(tmp_path), three_nodes=three_nodes_report.section(three_nodes_report.load(tmp_path))
    )

    row = next(line for line in page.splitlines() if line.startswith("| a follower is killed |"))
    assert row.endswith("| 0.2 | 0.5 |")
    assert "measured 3 times by `python -m tests.chaos three-nodes`" in " ".join(page.split())
