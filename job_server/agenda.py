"""One timer for any number of appointments."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Final

from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

GRAIN_S: Final = 0.005
"""Appointments this close together are kept together: each may be this much late."""


class Appointment:
    """A call at a time; `cancel` makes it not happen."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None


class Agenda:
    """Calls functions at their times, with one timer of the event loop however many there are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Appointment]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def __len__(self) -> int:
        """How many appointments are open; cancelled ones count until their time."""
        return len(self._heap)

    def after(self, delay_s: float, call: Callable[[], None]) -> Appointment:
        """Call a function in `delay_s` seconds, not sooner and at most a grain later."""
        appointment = Appointment(call)
        at = self._loop.time() + delay_s
        heapq.heappush(self._heap, (at, next(self._order), appointment))
        if at < self._timer_at:
            self._set_timer(at)
        return appointment

    def close(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at + GRAIN_S, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            call = heapq.heappop(self._heap)[2].call
            if call is not None:
                try:
                    call()
                except Exception:
                    # One bad appointment must not cost the others theirs.
                    log.exception("appointment_failed")
        if self._heap:
            self._set_timer(self._heap[0][0])
