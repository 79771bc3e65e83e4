"""What a fault is injected into, and the tools all kinds of faults use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient

from hasty.server.local_stack import Child, Link, Stack
from tests.chaos.disks import Disk
from tests.chaos.history import Fault, History, run_clock
from tests.chaos.load import Flight, Load
from tests.chaos.proxies import Journalling, LinkState, Proxy
from tests.chaos.task_load import TaskLoad

SERVICES: Final = ("api-server", "job-server")
BACK_WITHIN_S: Final = 60.0
"""A child that was killed is back and ready within this time, or the run says so."""


class NotReached(Exception):
    """The fault did not happen: nothing came by where it waited. It is not counted."""


@dataclass
class Proxies:
    """All proxies of a stack; `proxy` is what `StackConfig.proxy` wants."""

    journalling: Journalling = field(default_factory=Journalling)
    by_link: dict[tuple[str, str], Proxy] = field(default_factory=dict)
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)

    def proxy(self, link: Link) -> str:
        """Put a proxy before an address, the same one each time a service asks."""
        key = (link.child, link.target)
        if key not in self.addresses:
            host, _, port = link.address.rpartition(":")
            watched = self.journalling if link.target.endswith("mongo") else None
            self.by_link[key] = proxy = Proxy(link.child, link.target, (host, int(port)), watched)
            self.addresses[key] = proxy.listen()
        return self.addresses[key]

    def to(self, *targets: str) -> list[Proxy]:
        """Give the proxies to these parts, in a steady order."""
        return [proxy for (_, target), proxy in sorted(self.by_link.items()) if target in targets]

    async def close(self) -> None:
        """End them all."""
        for proxy in self.by_link.values():
            await proxy.close()


@dataclass
class System:
    """A running stack under load, as the kinds of faults see it."""

    stack: Stack
    api: AsyncMongoClient[dict[str, Any]]
    job: AsyncMongoClient[dict[str, Any]]
    proxies: Proxies
    caller: Proxy
    history: History
    flight: Flight
    load: Load
    tasks: TaskLoad
    faults_folder: Path
    data: Path
    ack_wait_s: float
    silence_s: float
    disks: dict[str, Disk] = field(default_factory=dict)
    no_disks: str = ""
    may_leave: dict[str, set[int]] = field(default_factory=dict)
    open_faults: set[asyncio.Task[None]] = field(default_factory=set)
    """What is left of faults that do their harm while others are injected."""

    def continue_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have a fault go on beside those that follow it."""
        task = asyncio.create_task(work, name="open fault")
        self.open_faults.add(task)
        task.add_done_callback(self.open_faults.discard)

    def children(self, *roles: str) -> list[Child]:
        """Give the children of these roles in the order of their names."""
        return [child for name, child in sorted(self.stack.children.items()) if child.role in roles]

    def allow(self, child: Child, *codes: int) -> None:
        """Say that a fault may make this child leave with these codes."""
        self.may_leave.setdefault(child.name, set()).update(codes)

    async def tell(self, child: Child, command: str) -> int:
        """Give a service a command through its fault file; returns the pid it went to.

        Raises:
            NotReached: when the process has not read it, because it is gone or stands still.
        """
        await child.ready(BACK_WITHIN_S)
        pid = child.pid
        if pid is None:
            raise NotReached(f"{child.name} is down")
        file = self.faults_folder / str(pid)
        file.write_text(command + "\n", encoding="utf-8")
        try:
            os.kill(pid, signal.SIGUSR2)
            await until(lambda: not file.exists(), within_s=5)
        except (ProcessLookupError, TimeoutError):
            file.unlink(missing_ok=True)
            raise NotReached(f"{child.name} ({pid}) did not read the command") from None
        return pid

    async def killed(self, children: Iterable[Child]) -> None:
        """SIGKILL all of them at once and wait until the supervisor has brought them back."""
        victims = list(children)
        await asyncio.gather(*(child.kill() for child in victims))
        await self.back(victims)

    async def back(self, children: Iterable[Child]) -> None:
        """Wait until all of these are ready."""
        await asyncio.gather(*(child.ready(BACK_WITHIN_S) for child in children))

    @contextlib.asynccontextmanager
    async def state(self, proxies: Iterable[Proxy], state: LinkState) -> AsyncIterator[None]:
        """Hold a state on several proxies."""
        changed = list(proxies)
        for proxy in changed:
            proxy.set_state(state)
        try:
            yield
        finally:
            for proxy in changed:
                proxy.set_state(LinkState.FAIR)


@dataclass
class Injection:
    """One injection: the kind says when it begins and on what; chance comes from the run's seed and its number."""

    fault: Fault
    chance: random.Random
    flight: Flight

    def begins(self, target: str, note: str = "") -> None:
        """Note that the fault is in force from now on."""
        self.fault.target = target
        self.fault.note = note
        self.fault.began = run_clock()
        self.fault.in_flight = len(self.flight.under_way)
        self.fault.bystanders = frozenset(self.flight.under_way)


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault: `inject` returns when the fault is healed; kinds that touch the same part never overlap."""

    name: str
    what: str
    touches: frozenset[str]
    inject: Callable[[System, Injection], Awaitable[None]]
    obstacle: Callable[[System], str] = lambda _ground: ""


async def until(fact: Callable[[], bool], *, within_s: float, every_s: float = 0.02) -> None:
    """Return when the fact is true.

    Raises:
        TimeoutError: when it is not within that time.
    """
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(every_s)


async def last(hit: Injection, shortest_s: float, longest_s: float) -> None:
    """Let a fault last for a time that chance chooses."""
    await asyncio.sleep(hit.chance.uniform(shortest_s, longest_s))
