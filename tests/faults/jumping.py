"""A loop in which waiting costs no time, and the gates before what a simulated process calls."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, Protocol


class Passes(Protocol):
    """A process that may be frozen or dead."""

    async def passes(self) -> None:
        """Return when a call goes on; never, when its process is dead."""
        ...


class _Jumping(selectors.SelectSelector):
    """Never waits: when nothing is ready, the time is that of the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Nothing outside of this world is ever ready, so the system is not asked.
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.now += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting costs no time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the seconds since the world began."""
        return self._jumping.now


class Gate:
    """Stands before a fake: each call passes on its way there and on its way back, if its process still can."""

    def __init__(self, process: Passes, target: Any) -> None:
        self._process = process
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._process.passes()
            try:
                return await found(*arguments, **named)
            finally:
                await self._process.passes()

        return call
