"""A process of the stack that is started again whenever it dies, until it is to stay down."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from hasty.server.local_stack.errors import WouldNotStartError
from hasty.server.local_stack.part import Part, State, Tell
from hasty.server.local_stack.process import Process
from hasty.server.local_stack.restarts import Attempts, End, Pauses, described

PROBE_EVERY_S = 0.05


class Supervised:
    """What is known of a child's process, and the task that keeps it running; `Child` says what is to become of it."""

    def __init__(self, part: Part, tell: Tell, changed: Callable[[], None], first_pause_s: float) -> None:
        self.name = part.name
        self.role = part.role
        self.log = part.log
        self.exits: list[int] = []
        self.state = State.DOWN
        self.part = part
        self._tell = tell
        self._changed = changed
        self._first_pause_s = first_pause_s
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False
        self._starts = 0
        self._was_ready = False
        self._moved = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens; the same across restarts."""
        return self.part.ports[0].number

    @property
    def address(self) -> str:
        """`127.0.0.1:<port>`."""
        return self.part.ports[0].address

    @property
    def url(self) -> str:
        """Its URL with its login, for a broker or a database; `http://` and its address for others."""
        return self.part.url_at(self.address) if self.part.url_at else f"http://{self.address}"

    @property
    def pid(self) -> int | None:
        """Its process id, None while it is down."""
        return self._process.pid if self._process else None

    @property
    def started(self) -> float | None:
        """When its process began, in seconds since 1970, which distinguishes it from a later one with the same id."""
        return self._process.started if self._process else None

    @property
    def restarts(self) -> int:
        """How often it was started after the first time."""
        return max(0, self._starts - 1)

    async def _keep(self) -> None:
        """Start it as often as it dies, until it is to stay down or never came up."""
        pauses = Pauses(self._first_pause_s)
        attempts = Attempts()
        try:
            while self._wanted:
                begun = time.monotonic()
                end = await self._one_life()
                if not self._wanted:
                    return
                if not self._was_ready:
                    if attempts.left_for_new_ports() and any(port.taken for port in self.part.ports):
                        self._renew_ports()
                        continue
                    if not attempts.left_after(end):
                        raise WouldNotStartError(f"{self.name} {end} while starting: {_last_line(self.log)}")
                pause_s = pauses.after(time.monotonic() - begun)
                self._tell(f"{self.name} {end}: starting it again in {pause_s:g} s")
                self._move_to(State.WAITING)
                await self._wanted_for(pause_s)
        finally:
            self._move_to(State.DOWN)

    async def _one_life(self) -> End:
        """Start the process, see whether it becomes ready, and return its end."""
        try:
            command = self.part.plan()
            self._process = process = await Process.start(command, self.log, self.part.death_signal)
        except OSError as error:  # no more processes, memory or disk: that may pass
            return End(None, f"cannot be started ({error})")
        self._starts += 1
        self._move_to(State.STARTING)
        if not self._wanted:  # the stack was told to end while the process was being made
            process.kill()
        announcing = asyncio.create_task(self._announce(process), name=f"first answer of {self.name}")
        try:
            code = await process.wait()
        finally:
            announcing.cancel()
        self.exits.append(code)
        self._process = None
        self._move_to(self.state)
        return End(code, described(code))

    async def _announce(self, process: Process) -> None:
        """Say that it answers, as soon as it does."""
        while await self.part.probe() is not None:  # noqa: ASYNC110 - the fact lies in another process
            await asyncio.sleep(PROBE_EVERY_S)
        if not process.running or not self._wanted:
            return
        self._was_ready = True
        self._move_to(State.READY)
        self._tell(f"{self.name} is ready on {self.address} (pid {process.pid})")

    def _renew_ports(self) -> None:
        for port in self.part.ports:
            port.renew()

    async def _wanted_for(self, pause_s: float) -> None:
        """Pause, but not beyond the moment it is to stay down."""
        deadline = time.monotonic() + pause_s
        while self._wanted and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                return

    async def _ended_within(self, grace_s: float) -> bool:
        keeper = self._keeper
        if keeper is None:
            return True
        await asyncio.wait([keeper], timeout=grace_s)
        return keeper.done()

    async def _wait_for_end(self) -> None:
        """Wait for the keeper; what it has to complain about is told by `start` and `ready` alone."""
        self._move_to(self.state)
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
            self._keeper.exception()

    async def _movement(self) -> None:
        """Wait until something about it changes; raises what its keeper ended with."""
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()
        await self._moved.wait()

    def _move_to(self, state: State) -> None:
        self.state = state
        self._moved.set()
        self._moved = asyncio.Event()
        self._changed()


def _last_line(log: Path) -> str:
    with log.open(errors="replace") as lines:
        return next(iter(deque((line.strip() for line in lines if line.strip()), maxlen=1)), "it said nothing")
