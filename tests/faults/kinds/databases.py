"""The two databases: restarted, frozen, too slow to wait for, and full."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.faults.ground import Ground, Hit, Kind, last
from tests.faults.kinds.broker import needs_disk
from tests.faults.wires import Weather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SLOWER_THAN_THE_CLIENT_S: Final = 6.5
"""Longer than a service waits for an answer of its database."""


async def _killed(name: str, ground: Ground, hit: Hit) -> None:
    hit.begins(name, "SIGKILL")
    await ground.killed([ground.stack.children[name]])


async def _frozen(name: str, ground: Ground, hit: Hit) -> None:
    database = ground.stack.children[name]
    hit.begins(name)
    database.pause()
    try:
        await last(hit, 1.5, 4)
    finally:
        database.resume()


async def _too_slow(name: str, ground: Ground, hit: Hit) -> None:
    """Each answer comes, but after the services gave up waiting."""
    hit.begins(name)
    async with ground.weather(ground.wires.to(name), Weather.DUMB):
        await asyncio.sleep(SLOWER_THAN_THE_CLIENT_S)


async def _disk_full(name: str, ground: Ground, hit: Hit) -> None:
    """A database may die of it; then its supervisor tries until there is room."""
    database, disk = ground.stack.children[name], ground.disks[name]
    ground.allow(database, *range(-64, 256))
    hit.begins(name)
    await disk.fill()
    try:
        await last(hit, 2, 4)
    finally:
        await disk.free()
    await database.ready(60)


def _kinds(name: str, owner: str) -> list[Kind]:
    touches = frozenset({name})
    made: list[Kind] = []
    inject: Callable[[str, Ground, Hit], Awaitable[None]]
    for short, what, inject in (
        ("killed", "SIGKILL of it, and a start on the same disk", _killed),
        ("frozen", "it stands still, then goes on", _frozen),
        ("too slow", "slower than its clients' patience", _too_slow),
    ):
        made.append(Kind(f"{name} {short}", f"{owner}'s database: {what}", touches, partial(inject, name)))
    what = f"{owner}'s database: its disk is full"
    made.append(Kind(f"{name} disk full", what, touches, partial(_disk_full, name), needs_disk(name)))
    return made


KINDS: Final = (*_kinds("api-mongo", "api-server"), *_kinds("job-mongo", "job-server"))
