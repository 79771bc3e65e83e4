"""What becomes of a run whose child has died. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

COMPANY_LOSSES: Final = 2
"""A turn that was lost so often in company runs alone from then on."""

ALONE_LOSSES: Final = 2
"""A turn that was lost so often when it ran alone fails: it is what kills its child."""


class Next(Enum):
    """What becomes of a lost run."""

    IN_COMPANY = auto()
    ALONE = auto()
    FAIL = auto()


@dataclass(frozen=True, slots=True)
class Losses:
    """How often a turn's run was lost here."""

    in_company: int = 0
    alone: int = 0

    def after(self, *, alone: bool) -> Losses:
        """Count one more."""
        return Losses(self.in_company, self.alone + 1) if alone else Losses(self.in_company + 1, self.alone)


def after_loss(losses: Losses, *, alone_from_start: bool, at_most_once: bool) -> Next:
    """Decide what becomes of a turn that was lost just now: the second run is in company, each further one alone.

    One that has to run alone from the start does so again; one that must not be started twice fails at once.
    """
    if at_most_once or losses.alone >= ALONE_LOSSES:
        return Next.FAIL
    if alone_from_start or losses.alone or losses.in_company >= COMPANY_LOSSES:
        return Next.ALONE
    return Next.IN_COMPANY
