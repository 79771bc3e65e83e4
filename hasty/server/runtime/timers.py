"""Many timers for the price of one of the event loop's."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final

from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

GRAIN_S: Final = 0.005
"""Timers this close together fire together: each may be this much late."""


class Timer:
    """A call at a time; `cancel` prevents it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None


class TimerQueue:
    """Calls functions at their times, with one timer of the event loop however many there are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def __len__(self) -> int:
        """How many timers are set; cancelled ones count until their time."""
        return len(self._heap)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call a function in `delay_s` seconds, not sooner and at most a grain later."""
        timer = Timer(call)
        at = self._loop.time() + delay_s
        heapq.heappush(self._heap, (at, next(self._order), timer))
        if at < self._timer_at:
            self._set_timer(at)
        return timer

    def close(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at + GRAIN_S, self._fire)

    def _fire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            call = heapq.heappop(self._heap)[2].call
            if call is not None:
                try:
                    call()
                except Exception:
                    # One failing call must not cost the others theirs.
                    log.exception("timer_failed")
        if self._heap:
            self._set_timer(self._heap[0][0])


class IdleTimer:
    """Calls a function when there has been nothing to do for `after_s` seconds.

    `start` and `stop` may be called for every request: to set and cancel a timer of the loop each time would cost some
    two microseconds. So the one timer that there is looks, when it fires, whether it is still wanted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._after_s = after_s
        self._expire = expire
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Count from now on."""
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._after_s, self._fire)

    def stop(self) -> None:
        """Count no longer: there is something to do."""
        self._since = None

    def close(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        self._timer = None
        if self._since is None:
            return
        left_s = self._since + self._after_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._fire)
        else:
            self._expire()
