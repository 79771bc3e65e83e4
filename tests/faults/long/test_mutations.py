"""Without a safeguard the checker objects: each is removed from a running system, and then a fault comes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.chaos.chaos_run import run_plan
from tests.chaos.mutations import MUTATIONS
from tests.chaos.plan import Plan

pytestmark = [pytest.mark.own_stack]

SEED = 7


@dataclass(frozen=True)
class Exposure:
    """The kinds of faults that find a safeguard gone, and the invariant that is broken then.

    With `queued`, jobs wait for a place all the time.
    """

    invariant: str
    kinds: tuple[str, ...]
    handlers: bool = False
    queued: bool = False


EXPOSED_BY = {
    "no-unique-index": Exposure("I4", ("clock ahead",)),
    "recorded-outcome-ignored": Exposure("I2", ("crash job.after_outcome",)),
    "no-rescue": Exposure("I1", ("crash api.before_publish",)),
    "no-taking-over": Exposure("I1", ("crash api.before_publish",)),
    "no-conditional-update": Exposure("I3", ("outcome too late",)),
    "acknowledgement-before-publish": Exposure("I1", ("crash job.before_outcome",)),
    "no-journal-for-jobs": Exposure("I1", ()),
    "no-journal-for-outcomes": Exposure("I1", ()),
    "no-turn-check": Exposure("I9", ("messages duplicated",) * 3, handlers=True),
    "no-memory-of-cancellations": Exposure("I10", (), handlers=True, queued=True),
    "no-heartbeat": Exposure("I11", (), handlers=True),
    "no-second-run": Exposure("I12", ("handler exits",), handlers=True),
}


def _plan(folder: Path, kinds: tuple[str, ...], *, handlers: bool) -> Plan:
    """A rescue so late that it hides nothing, and a bound before it; with handlers, more of them than have a place."""
    plan = Plan(
        seed=SEED,
        folder=folder,
        kinds=kinds,
        api_servers=2,
        job_servers=2,
        rate=40,
        disks=False,
        overdue_s=3600,
        settle_s=12,
    )
    if not handlers:
        return plan
    return replace(
        plan,
        rate=5,
        task_rate=20,
        cancelled_part=0.4,
        warm_up_s=15,
        settle_s=30,
        environment={"HASTY_ASYNC_SLOTS": "3"},
    )


def test_every_safeguard_is_removed() -> None:
    """A safeguard that is added to the mutations is added here."""
    assert set(EXPOSED_BY) == set(MUTATIONS)


@pytest.mark.parametrize("safeguard", EXPOSED_BY)
async def test_without_it_the_checker_objects(safeguard: str, tmp_path: Path) -> None:
    """The same faults leave the unchanged system without a violation, see below."""
    exposure = EXPOSED_BY[safeguard]
    role = MUTATIONS[safeguard][0].replace("_", "-")
    commands = {role: (sys.executable, "-m", "tests.chaos.mutations", safeguard)}

    plan = _plan(tmp_path, exposure.kinds, handlers=exposure.handlers)
    if exposure.queued:
        plan = replace(plan, warm_up_s=6, environment={"HASTY_ASYNC_SLOTS": "1"})

    outcome = await run_plan(replace(plan, commands=commands))

    assert exposure.invariant in {violation.invariant for violation in outcome.violations}
    assert outcome.timelines


@pytest.mark.parametrize("handlers", [False, True])
async def test_with_all_of_them_it_does_not(tmp_path: Path, *, handlers: bool) -> None:
    """All these faults, all safeguards: nothing to object to."""
    kinds = tuple(kind for one in EXPOSED_BY.values() if one.handlers == handlers for kind in one.kinds)

    outcome = await run_plan(_plan(tmp_path, kinds, handlers=handlers))

    assert outcome.timelines == []
    assert outcome.facts.journalled > 0
    assert outcome.history.accepted()
    assert {fault.kind for fault in outcome.history.faults if fault.reached} == set(kinds)
