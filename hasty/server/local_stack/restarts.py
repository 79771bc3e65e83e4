"""What follows the end of a child's process: a start after a pause, on other ports, or none."""

import signal
from dataclasses import dataclass

BAD_SETTINGS = 2
DEATHS_AT_START = 3
NEW_PORTS = 5
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True)
class End:
    """How a life ended, or that it did not begin (no code)."""

    code: int | None
    description: str

    def __str__(self) -> str:
        return self.description


class Attempts:
    """How often a child may fail before it was ready for the first time."""

    def __init__(self) -> None:
        self._new_ports = 0
        self._deaths = 0

    def left_for_new_ports(self) -> bool:
        """Count one more race for a port."""
        self._new_ports += 1
        return self._new_ports <= NEW_PORTS

    def left_after(self, end: End) -> bool:
        """Count one more death; bad settings are not better the second time."""
        self._deaths += 1
        return end.code != BAD_SETTINGS and self._deaths < DEATHS_AT_START


class Pauses:
    """The pause before a start: doubled from one early death to the next, short again after a long life."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._next_s = first_s

    def after(self, life_s: float) -> float:
        """The pause after a life of `life_s`."""
        if life_s >= LONGEST_PAUSE_S:
            self._next_s = self._first_s
        pause_s = self._next_s
        self._next_s = min(LONGEST_PAUSE_S, pause_s * 2)
        return pause_s


def described(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
