"""The turns that a job-server holds, each from its delivery to its acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from hasty.jobs import Ending, Turn
from hasty.server.messaging.delivery import Delivery
from job_server.work import Stop


class Held:
    """A turn that this process works on, from its delivery to its acknowledgement."""

    __slots__ = ("began", "deliveries", "ending", "run", "started", "stop", "turn")

    def __init__(self, turn: Turn, delivery: Delivery, began: float) -> None:
        self.turn = turn
        # More than one when the broker took this process for dead, or the job was dispatched again: all are
        # acknowledged.
        self.deliveries: tuple[Delivery, ...] = (delivery,)
        self.stop: Stop | None = None
        self.ending: Ending | None = None
        # Whether its work was started here; otherwise its ending was found.
        self.started = False
        # When it was taken, in the loop's time, and which run of the turn this is.
        self.began = began
        self.run = 1


class HeldTurns:
    """The held turns, by turn id; `on_freed` is called whenever one is no longer held."""

    def __init__(self) -> None:
        self._turns: dict[str, Held] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.tasks = 0
        """How many of them are turns of handlers."""
        self.on_freed: Callable[[], None] = lambda: None
        self._notes: dict[int, set[str]] = {}

    def __len__(self) -> int:
        """How many turns are held."""
        return len(self._turns)

    def __iter__(self) -> Iterator[Held]:
        """All of them, as they are now."""
        return iter(list(self._turns.values()))

    def get(self, turn_id: str) -> Held | None:
        """Return the held turn with this id."""
        return self._turns.get(turn_id)

    def of_job(self, job_id: str) -> bool:
        """Whether a turn of this job is held."""
        return any(held.turn.job_id == job_id for held in self._turns.values())

    def deliveries(self) -> list[Delivery]:
        """Return the messages of all held turns."""
        return [delivery for held in self._turns.values() for delivery in held.deliveries]

    def hold(self, turn: Turn, delivery: Delivery) -> Held:
        """Hold a turn."""
        held = self._turns[turn.turn_id] = Held(turn, delivery, asyncio.get_running_loop().time())
        self.tasks += turn.task is not None
        self._idle.clear()
        return held

    def release(self, held: Held) -> None:
        """Hold a turn no longer."""
        if self._turns.pop(held.turn.turn_id, None) is not None:
            self.tasks -= held.turn.task is not None
        for released in self._notes.values():
            released.add(held.turn.turn_id)
        if not self._turns:
            self._idle.set()
        self.on_freed()

    @contextlib.contextmanager
    def noting_released(self) -> Iterator[set[str]]:
        """Collect the ids of turns that are released until the end of the block."""
        released: set[str] = set()
        self._notes[id(released)] = released
        try:
            yield released
        finally:
            del self._notes[id(released)]

    def clear(self) -> None:
        """Hold nothing any more."""
        self._turns.clear()
        self.tasks = 0
        self._idle.set()

    async def until_none(self) -> None:
        """Wait until nothing is held."""
        await self._idle.wait()


class _InProgress(Protocol):
    async def in_progress(self, deliveries: Sequence[Delivery]) -> None: ...


class Heartbeat:
    """Tells the broker, again and again, that the held turns are still being worked on."""

    def __init__(self, held: HeldTurns, acks: _InProgress) -> None:
        self._held = held
        self._acks = acks
        self._now = asyncio.Event()

    async def send(self) -> None:
        """Tell it now."""
        await self._acks.in_progress(self._held.deliveries())

    def soon(self) -> None:
        """Have the next heartbeat come at once: the broker is back, and may have missed some."""
        self._now.set()

    async def run(self, ack_wait_s: float) -> None:
        """Tell it for ever, every third of the acknowledgement wait: none then means dead or frozen."""
        while True:
            self._now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ack_wait_s / 3):
                    await self._now.wait()
            await self.send()
