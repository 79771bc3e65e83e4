"""The page: what several runs measured, added up, and nothing that no run measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.faults import report
from tests.faults.checker import Facts, Process, Violation, Vitals
from tests.faults.history import Fault, History, Post
from tests.faults.hunt import Outcome, Plan
from tests.faults.test_checker import JOB, OUTCOME

if TYPE_CHECKING:
    from pathlib import Path

HELD = Vitals(60, 40, 12)


def _outcome(folder: Path, seed: int) -> Outcome:
    """A run with two zombies, one of which was alone, and one fault that was not reached."""
    history = History(
        posts=[Post(100, 101, "x", 201, "job-1"), Post(100, 101, "x", 400), Post(100, 101, "y", None)],
        faults=[
            Fault(0, "zombie", in_flight=10, recovery_s=2.5, bystanders=frozenset({"job-1"})),
            Fault(1, "zombie", in_flight=20, recovery_s=99, alone=False),
            Fault(2, "garbage", reached=False),
        ],
    )
    facts = Facts(
        jobs=[JOB],
        outcomes=[replace(OUTCOME, attempt=2)],
        processes=[Process("api-server-1", HELD, HELD, (-9,))],
        journalled=7,
    )
    plan = Plan(seed=seed, folder=folder, seconds=60)
    return Outcome(plan, history, facts, [], [], {"broker disk full": "no root"}, {"garbage": 1}, 61.5)


def test_runs_add_up(tmp_path: Path) -> None:
    """Two runs of one zombie alone and one in company each."""
    for seed in (1, 2):
        report.keep(_outcome(tmp_path, seed), tmp_path)

    runs = report.load(tmp_path)
    page = report.page(runs)

    assert [run["seed"] for run in runs] == [1, 2]
    assert "**4 faults of 1 kinds were injected into running systems while they" in page
    assert "accepted 2 jobs: 0 violations of I1 to I7" in " ".join(page.split())
    row = next(line for line in page.splitlines() if line.startswith("| zombie "))
    assert row.endswith("| 4 | 15 / 20 | 0 | 2 | 2.5 | 2.5 | 2.5 |")
    assert "Not reached, and not counted above: garbage 2." in page
    assert "could not be injected: broker disk full: no root" in page
    assert "`python -m tests.faults run --seed 1 --minutes 1 --rate 60`" in page


def test_a_violation_is_told(tmp_path: Path) -> None:
    """It stands in the total, in the matrix and in words."""
    broken = replace(_outcome(tmp_path, 1), violations=[Violation("I2", "job-1", "has 2 outcomes")])
    report.keep(broken, tmp_path)

    page = report.page(report.load(tmp_path))

    assert ": 1 violations of I1 to I7" in " ".join(page.split())
    assert "- 1 times: I2, job: has 2 outcomes" in page


def test_earlier_runs_are_told_apart(tmp_path: Path) -> None:
    """They stand beside the total, in the list of runs and with what they found, and in no figure of the matrix."""
    earlier = tmp_path / "before"
    report.keep(_outcome(tmp_path, 1), tmp_path)
    report.keep(replace(_outcome(tmp_path, 2), violations=[Violation("I8", "job-1", "left")]), earlier)

    page = report.page(report.load(tmp_path), before=report.load(earlier))

    told = " ".join(page.split())
    assert "**2 faults of 1 kinds" in told
    assert "0 of I8.**" in told
    assert "there were 2 faults and 1 accepted jobs, with 0 violations of I1 to I7 and 1 of I8" in told
    assert "run --seed 2" in page


def test_recovery_figures(tmp_path: Path) -> None:
    """The median and the worst of what was measured, beside what is promised."""
    report.keep(_outcome(tmp_path, 1), tmp_path)
    name = "after a broker restart work goes on"
    report.keep_recovery({name: [0.5, 3.25, 1.0]}, tmp_path)

    page = report.page(report.load(tmp_path), report.load_recovery(tmp_path))

    assert f"| {name} | 5 | 1.0 | 3.2 |" in page
    assert json.loads((tmp_path / "recovery.json").read_text())["times"] == 3
