"""The schedule: the seed decides it, every kind has its turn, and faults side by side do not touch the same part."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.hunt import Hunt, Plan
from tests.faults.kinds import ALL

FOLDER = Path("nowhere")


def waves(seed: int, overlap: int, *, disks: bool = True) -> list[list[str]]:
    """The names of the first round of faults, wave by wave."""
    ground: Any = SimpleNamespace(
        disks={"nats": 1, "api-mongo": 1, "job-mongo": 1} if disks else {}, no_disks="no root"
    )
    hunt = Hunt(Plan(seed=seed, folder=FOLDER, overlap=overlap), tell=lambda _line: None)
    return [[kind.name for kind in wave] for wave in hunt.waves(ground, once=True)]


def test_the_seed_decides() -> None:
    """The same seed gives the same order, another one another."""
    assert waves(1, 3) == waves(1, 3)
    assert waves(1, 3) != waves(2, 3)


@pytest.mark.parametrize("overlap", [1, 4])
def test_every_kind_has_its_turn(overlap: int) -> None:
    """Once in each round, whatever is injected side by side."""
    assert sorted(name for wave in waves(3, overlap) for name in wave) == sorted(ALL)


def test_faults_side_by_side_touch_different_parts() -> None:
    """Two faults of the same process would make a third one that nobody described."""
    for wave in waves(4, 4):
        touched = [part for name in wave for part in ALL[name].touches]
        assert len(touched) == len(set(touched))
        assert len(wave) <= 4


def test_what_cannot_be_injected_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Without disks of their own, the three kinds that fill one are named with the reason."""
    ground: Any = SimpleNamespace(disks={}, no_disks="no root")
    hunt = Hunt(Plan(seed=1, folder=FOLDER), tell=print)

    dealt = [kind.name for wave in islice(hunt.waves(ground, once=True), 1000) for kind in wave]

    told = capsys.readouterr().out
    missing = set(ALL) - set(dealt)
    assert missing == {"broker disk full", "api-mongo disk full", "job-mongo disk full"}
    assert all(f"{name} cannot be injected here: no root" in told for name in missing)
