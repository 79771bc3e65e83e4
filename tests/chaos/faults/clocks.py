"""The wall clock of one api-server, off by minutes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from tests.chaos.system import FaultKind, Injection, System

_STEPS: Final = 4


async def _off(sign: int, system: System, hit: Injection) -> None:
    """While it is off, callers ask for the same objects at every api-server, again and again."""
    victim = hit.chance.choice(system.children("api-server"))
    shift_s = sign * hit.chance.randint(120, 900)
    hit.begins(victim.name, f"{shift_s:+d} s")
    pid = await system.tell(victim, f"clock {shift_s}")
    try:
        for _ in range(_STEPS):
            system.load.rush()
            await asyncio.sleep(0.7)
    finally:
        if victim.pid == pid:  # a process that started again has its own clock again
            await system.tell(victim, "clock 0")


KINDS: Final = (
    FaultKind("clock ahead", "one api-server's clock is minutes ahead", frozenset({"api-server"}), partial(_off, 1)),
    FaultKind("clock behind", "one api-server's clock is minutes behind", frozenset({"api-server"}), partial(_off, -1)),
)
