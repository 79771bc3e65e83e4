"""The two databases: restarted, frozen, too slow to wait for, and full."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from tests.faults.ground import Ground, Hit, Kind, NotReached, last
from tests.faults.kinds.broker import needs_disk
from tests.faults.wires import Weather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pymongo.asynchronous.collection import AsyncCollection

_MOST_BALLAST_MIB: Final = 512

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
    """Healed by room and a restart: a storage engine that could not write its log does nothing more."""
    database, disk = ground.stack.children[name], ground.disks[name]
    client = ground.api if name == "api-mongo" else ground.job
    filler = client.get_database("tester").get_collection("filler", write_concern=WriteConcern(w=1, j=True))
    await filler.insert_one({"made": "beforehand"})
    hit.begins(name)
    await disk.fill()
    try:
        await _write_until_refused(filler)
        await last(hit, 1, 2.5)
    finally:
        await disk.free()
        await database.kill()
    await database.ready(60)
    with contextlib.suppress(PyMongoError):  # the next one drops it
        await client.drop_database("tester")


async def _write_until_refused(filler: AsyncCollection[dict[str, Any]]) -> None:
    """Use up what the database had reserved; the services' own writes are refused from here on."""
    ballast = os.urandom(2**20)
    for _ in range(_MOST_BALLAST_MIB // 4):
        try:
            await filler.insert_many([{"ballast": ballast} for _ in range(4)], ordered=False)
        except PyMongoError:
            return
    raise NotReached(f"{_MOST_BALLAST_MIB} MiB were written to a full disk")


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
