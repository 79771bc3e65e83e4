"""A set that forgets: what was heard lately."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

KEPT_S: Final = 600.0
KEPT_MAX: Final = 100_000


class Recent:
    """Remembers names for `kept_s` seconds, the latest `most` of them; `now` gives monotonic seconds."""

    def __init__(self, kept_s: float = KEPT_S, most: int = KEPT_MAX, now: Callable[[], float] = time.monotonic) -> None:
        self._kept_s = kept_s
        self._most = most
        self._now = now
        # The oldest first.
        self._heard: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        """Whether a name was heard lately."""
        at = self._heard.get(name)
        return at is not None and self._now() - at < self._kept_s

    def __len__(self) -> int:
        """How many names are kept, those that are too old included until the next one comes."""
        return len(self._heard)

    def add(self, names: Iterable[str]) -> None:
        """Note that these names were heard now."""
        now = self._now()
        for name in names:
            self._heard.pop(name, None)
            self._heard[name] = now
        while self._heard:
            oldest = next(iter(self._heard))
            if len(self._heard) <= self._most and now - self._heard[oldest] < self._kept_s:
                return
            del self._heard[oldest]
