"""The two databases: restarted, frozen, too slow to wait for, and full."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from pymongo import WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from hasty.server.local_stack import StackError
from tests.chaos.faults.broker import needs_disk
from tests.chaos.proxies import LinkState
from tests.chaos.system import BACK_WITHIN_S, FaultKind, Injection, NotReached, System, last

_MOST_BALLAST_MIB: Final = 512

SLOWER_THAN_THE_CLIENT_S: Final = 6.5
"""Longer than a service waits for an answer of its database."""


async def _killed(name: str, system: System, hit: Injection) -> None:
    hit.begins(name, "SIGKILL")
    await system.killed([system.stack.children[name]])


async def _frozen(name: str, system: System, hit: Injection) -> None:
    database = system.stack.children[name]
    hit.begins(name)
    database.pause()
    try:
        await last(hit, 1.5, 4)
    finally:
        database.resume()


async def _too_slow(name: str, system: System, hit: Injection) -> None:
    """Each answer comes, but after the services gave up waiting."""
    hit.begins(name)
    async with system.state(system.proxies.to(name), LinkState.DUMB):
        await asyncio.sleep(SLOWER_THAN_THE_CLIENT_S)


async def _disk_full(name: str, system: System, hit: Injection) -> None:
    """Healed by space alone: the supervisor restarts a database whose storage engine has given up."""
    disk = system.disks[name]
    # The service's login may write to its own database alone.
    database = system.api.hasty_api if name == "api-mongo" else system.job.hasty_job
    filler = database.get_collection("filler", write_concern=WriteConcern(w=1, j=True))
    await filler.insert_one({"made": "beforehand"})
    hit.begins(name)
    await disk.fill()
    try:
        await _write_until_refused(filler)
        await last(hit, 1, 2.5)
    finally:
        await disk.free()
    await _write_until_accepted(name, filler)
    with contextlib.suppress(PyMongoError):  # the next one empties it
        await filler.delete_many({})


async def _write_until_refused(filler: AsyncCollection[dict[str, Any]]) -> None:
    """Use up what the database had reserved; the services' own writes are refused from here on."""
    ballast = os.urandom(2**20)
    for _ in range(_MOST_BALLAST_MIB // 4):
        try:
            await filler.insert_many([{"ballast": ballast} for _ in range(4)], ordered=False)
        except PyMongoError:
            return
    raise NotReached(f"{_MOST_BALLAST_MIB} MiB were written to a full disk")


async def _write_until_accepted(name: str, filler: AsyncCollection[dict[str, Any]]) -> None:
    """Wait until the database stores again."""
    try:
        async with asyncio.timeout(BACK_WITHIN_S):
            while True:
                with contextlib.suppress(PyMongoError):
                    await filler.insert_one({"made": "afterwards"})
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise StackError(f"{name} still stores nothing {BACK_WITHIN_S:g} s after it had space again") from None


def _kinds(name: str, owner: str) -> list[FaultKind]:
    touches = frozenset({name})
    made: list[FaultKind] = []
    inject: Callable[[str, System, Injection], Awaitable[None]]
    for short, what, inject in (
        ("killed", "SIGKILL of it, and a start on the same disk", _killed),
        ("frozen", "it stands still, then goes on", _frozen),
        ("too slow", "slower than its clients' timeout", _too_slow),
    ):
        made.append(FaultKind(f"{name} {short}", f"{owner}'s database: {what}", touches, partial(inject, name)))
    what = f"{owner}'s database: its disk is full"
    made.append(FaultKind(f"{name} disk full", what, touches, partial(_disk_full, name), needs_disk(name)))
    return made


KINDS: Final = (*_kinds("api-mongo", "api-server"), *_kinds("job-mongo", "job-server"))
