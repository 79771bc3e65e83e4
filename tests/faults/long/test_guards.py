"""Without a guard the checker objects: each is removed from a running system, which a fault then finds unguarded."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.hunt import Plan, hunt
from tests.faults.sabotage import GUARDS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.own_stack]

SEED = 7


@dataclass(frozen=True)
class Exposure:
    """The kinds of faults that find a guard gone, and the law that is broken then."""

    law: str
    kinds: tuple[str, ...]


EXPOSED_BY = {
    "no-unique-index": Exposure("I4", ("clock ahead",)),
    "no-adoption": Exposure("I2", ("crash job.after_outcome",)),
    "no-rescue": Exposure("I1", ("crash api.before_publish",)),
    "no-taking-over": Exposure("I1", ("crash api.before_publish",)),
    "no-conditional-update": Exposure("I3", ("outcome too late",)),
    "acknowledgement-before-publish": Exposure("I1", ("crash job.before_outcome",)),
    "no-journal-for-jobs": Exposure("I1", ()),
    "no-journal-for-outcomes": Exposure("I1", ()),
}


def _plan(folder: Path, kinds: tuple[str, ...]) -> Plan:
    """A rescue so late that it hides nothing, and a bound before it."""
    return Plan(
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


def test_every_guard_is_tried() -> None:
    """A guard that is added to the saboteur is added here."""
    assert set(EXPOSED_BY) == set(GUARDS)


@pytest.mark.parametrize("guard", EXPOSED_BY)
async def test_without_it_the_checker_objects(guard: str, tmp_path: Path) -> None:
    """The same faults leave the guarded system without a violation, see below."""
    exposure = EXPOSED_BY[guard]
    role = GUARDS[guard][0].replace("_", "-")
    commands = {role: (sys.executable, "-m", "tests.faults.sabotage", guard)}

    outcome = await hunt(replace(_plan(tmp_path, exposure.kinds), commands=commands))

    assert exposure.law in {violation.law for violation in outcome.violations}
    assert outcome.stories


async def test_with_all_of_them_it_does_not(tmp_path: Path) -> None:
    """All these faults, all guards: nothing to object to."""
    kinds = tuple(kind for exposure in EXPOSED_BY.values() for kind in exposure.kinds)

    outcome = await hunt(_plan(tmp_path, kinds))

    assert outcome.stories == []
    assert outcome.facts.journalled > 0
    assert outcome.history.accepted()
    assert {fault.kind for fault in outcome.history.faults if fault.reached} == set(kinds)
