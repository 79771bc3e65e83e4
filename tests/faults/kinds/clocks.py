"""The wall clock of one api-server, off by minutes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from tests.faults.ground import Ground, Hit, Kind

_STEPS: Final = 4


async def _off(sign: int, ground: Ground, hit: Hit) -> None:
    """While it is off, callers ask for the same objects at every api-server, again and again."""
    victim = hit.chance.choice(ground.children("api-server"))
    shift_s = sign * hit.chance.randint(120, 900)
    hit.begins(victim.name, f"{shift_s:+d} s")
    pid = await ground.tell(victim, f"clock {shift_s}")
    try:
        for _ in range(_STEPS):
            ground.load.rush()
            await asyncio.sleep(0.7)
    finally:
        if victim.pid == pid:  # a process that started again has its own clock again
            await ground.tell(victim, "clock 0")


KINDS: Final = (
    Kind("clock ahead", "one api-server's clock is minutes ahead", frozenset({"api-server"}), partial(_off, 1)),
    Kind("clock behind", "one api-server's clock is minutes behind", frozenset({"api-server"}), partial(_off, -1)),
)
