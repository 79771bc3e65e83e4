"""What handlers print, line by line, and how much of it is let through."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Final

LINE_MAX: Final = 8 * 1024
"""Characters of a line; a longer one is passed on in parts."""

BURST: Final = 256 * 1024
"""Characters that are let through at once."""

CHARACTERS_A_SECOND: Final = 64 * 1024
"""Characters that are let through in the long run."""

LINE_COSTS: Final = 128
"""Characters that each line counts besides its own: what the log adds to it."""


class LineWriter(io.TextIOBase):
    """A text stream that calls `write_line` with every line that is complete."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        super().__init__()
        self._write_line = write_line
        self._started = threading.local()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """What it would be written as."""
        return "utf-8"

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Pass on what is complete; threads do not share a line."""
        whole = getattr(self._started, "text", "") + text
        *lines, rest = whole.split("\n")
        self._started.text = rest if len(rest) <= LINE_MAX else ""
        for line in lines if len(rest) <= LINE_MAX else [*lines, rest]:
            for start in range(0, len(line), LINE_MAX):
                part = line[start : start + LINE_MAX].rstrip("\r")
                if part.strip():
                    self._write_line(part)
        return len(text)

    def flush(self) -> None:
        """Pass on a line that is not complete."""
        rest = getattr(self._started, "text", "")
        if rest.strip():
            self._write_line(rest)
        self._started.text = ""


class OutputLimit:
    """Lets a burst of lines through, and then so much a second; counts the others. Any thread may ask it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left = float(BURST)
        self._at = now()
        self._dropped = 0
        self._lock = threading.Lock()

    def admit(self, line: str) -> bool:
        """Whether a line is let through; if not, it is counted."""
        with self._lock:
            now = self._now()
            self._left = min(self._left + (now - self._at) * CHARACTERS_A_SECOND, BURST)
            self._at = now
            cost = len(line) + LINE_COSTS
            if cost > self._left:
                self._dropped += 1
                return False
            self._left -= cost
            return True

    def drop(self, lines: int) -> None:
        """Count lines that nobody asked about."""
        with self._lock:
            self._dropped += lines

    def take_dropped(self) -> int:
        """How many lines were left out since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped
