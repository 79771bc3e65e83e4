"""A child of the stack: started, started again when it dies, and ended so that nothing of it is left."""

import asyncio
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from local_stack.errors import WouldNotStartError
from local_stack.ports import Port
from local_stack.probes import Probe
from local_stack.process import Command, Process

Tell = Callable[[str], None]

BAD_SETTINGS = 2
DEATHS_AT_START = 3
NEW_PORTS = 5
LONGEST_PAUSE_S = 10.0
PROBE_EVERY_S = 0.05


class State(Enum):
    """What a child is doing, in the words of the live view."""

    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    WAITING = "starting again"
    STOPPING = "stopping"
    DOWN = "down"


@dataclass(frozen=True)
class Part:
    """What makes a child: its names, how it is run and asked, and how it is ended.

    `plan` is called before every start, and may write what the program reads. `data` is what `Child.wipe` removes.
    """

    name: str
    role: str
    ports: Sequence[Port]
    plan: Callable[[], Command]
    probe: Probe
    log: Path
    data: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 5.0


class Child:
    """One child; it is up, or on its way there, until it is told to stay down."""

    def __init__(self, part: Part, tell: Tell, changed: Callable[[], None], first_pause_s: float) -> None:
        self.name = part.name
        self.role = part.role
        self.log = part.log
        self.exits: list[int] = []
        self.state = State.DOWN
        self._part = part
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
        return self._part.ports[0].number

    @property
    def address(self) -> str:
        """`127.0.0.1:<port>`."""
        return self._part.ports[0].address

    @property
    def pid(self) -> int | None:
        """Its process id, None while it is down."""
        return self._process.pid if self._process else None

    @property
    def started(self) -> str | None:
        """What tells its process from a later one with the same id."""
        return self._process.started if self._process else None

    @property
    def restarts(self) -> int:
        """How often it was started after the first time."""
        return max(0, self._starts - 1)

    async def start(self) -> None:
        """Start it, unless it runs; it may not answer yet. WouldNotStartError when it cannot be brought up."""
        if self._keeper is None or self._keeper.done():
            self._wanted = True
            self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")
        while self._process is None and self._wanted:
            await self._movement()

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it answers; WouldNotStartError when it does not within `timeout_s`."""
        reason: str | None = "it does not run"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    process = self._process
                    if process is None:
                        await self._movement()
                        continue
                    reason = await self._part.probe()
                    if reason is None and process is self._process:
                        return
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError:
            raise WouldNotStartError(f"{self.name} was not ready within {timeout_s:g} s: it {reason}") from None

    async def answers(self) -> str | None:
        """Ask it once, in its own protocol: None, or the reason why not."""
        return await self._part.probe()

    async def kill(self) -> None:
        """SIGKILL, seen through to its end; it is started again after a pause."""
        process = self._process
        if process is None:
            return
        process.kill()
        while self._process is process:
            await self._movement()

    async def stay_down(self) -> None:
        """SIGKILL, and no start before `start` is called."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
        await self._kept_to_the_end()

    async def terminate(self) -> int:
        """End it as its program wants to be ended, by SIGKILL after its grace; its exit code, 0 when it was down."""
        self._wanted = False
        process = self._process
        if process is None:
            await self._kept_to_the_end()
            return 0
        self._move_to(State.STOPPING)
        process.signal(self._part.stop_signal)
        process.signal(signal.SIGCONT)  # a paused process would not see the first signal
        if not await self._gone_within(self._part.grace_s):
            self._tell(f"{self.name} did not end within {self._part.grace_s:g} s: killed")
            process.kill()
        await self._kept_to_the_end()
        return self.exits[-1]

    def kill_now(self) -> None:
        """SIGKILL without waiting for anything, and no further start."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
        self._move_to(self.state)

    def pause(self) -> None:
        """SIGSTOP: it stays there and answers nothing."""
        self._signal(signal.SIGSTOP)
        self._move_to(State.PAUSED)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)
        self._move_to(State.READY)

    def hang_up(self) -> None:
        """SIGHUP: read your configuration again."""
        self._signal(signal.SIGHUP)

    def wipe(self) -> None:
        """Remove its data; only while it is down."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs on its data: end it first")
        if self._part.data is not None:
            shutil.rmtree(self._part.data, ignore_errors=True)

    def close(self) -> None:
        """Give its ports back."""
        for port in self._part.ports:
            port.close()

    async def _keep(self) -> None:
        """Start it as often as it dies, until it is to stay down or never came up."""
        pauses = _Pauses(self._first_pause_s)
        tries = _Tries()
        try:
            while self._wanted:
                begun = time.monotonic()
                end = await self._one_life()
                if not self._wanted:
                    return
                if not self._was_ready:
                    if tries.left_for_new_ports() and any(port.taken for port in self._part.ports):
                        self._renew_ports()
                        continue
                    if not tries.left_after(end):
                        raise WouldNotStartError(f"{self.name} {end} while starting: {self._last_line()}")
                pause_s = pauses.after(time.monotonic() - begun)
                self._tell(f"{self.name} {end}: starting it again in {pause_s:g} s")
                self._move_to(State.WAITING)
                await self._wanted_for(pause_s)
        finally:
            self._move_to(State.DOWN)

    async def _one_life(self) -> "_End":
        """Start the process, see whether it becomes ready, and return its end."""
        try:
            command = self._part.plan()
            self._process = process = await Process.start(command, self.log, self._part.death_signal)
        except OSError as error:  # no more processes, memory or disk: that may pass
            return _End(None, f"cannot be started ({error})")
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
        return _End(code, _described(code))

    async def _announce(self, process: Process) -> None:
        """Say that it answers, as soon as it does."""
        while await self._part.probe() is not None:  # noqa: ASYNC110 - the fact lies in another process
            await asyncio.sleep(PROBE_EVERY_S)
        if not process.running or not self._wanted:
            return
        self._was_ready = True
        self._move_to(State.READY)
        self._tell(f"{self.name} is ready on {self.address} (pid {process.pid})")

    def _renew_ports(self) -> None:
        for port in self._part.ports:
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

    async def _gone_within(self, grace_s: float) -> bool:
        keeper = self._keeper
        if keeper is None:
            return True
        await asyncio.wait([keeper], timeout=grace_s)
        return keeper.done()

    async def _kept_to_the_end(self) -> None:
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

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)

    def _last_line(self) -> str:
        with self.log.open(errors="replace") as log:
            return next(iter(deque((line.strip() for line in log if line.strip()), maxlen=1)), "it said nothing")


@dataclass(frozen=True)
class _End:
    """How a life ended, or that it did not begin (no code)."""

    code: int | None
    description: str

    def __str__(self) -> str:
        return self.description


class _Tries:
    """How often a child may fail before it was ready for the first time."""

    def __init__(self) -> None:
        self._new_ports = 0
        self._deaths = 0

    def left_for_new_ports(self) -> bool:
        """Count one more race for a port."""
        self._new_ports += 1
        return self._new_ports <= NEW_PORTS

    def left_after(self, end: _End) -> bool:
        """Count one more death; bad settings are not better the second time."""
        self._deaths += 1
        return end.code != BAD_SETTINGS and self._deaths < DEATHS_AT_START


class _Pauses:
    """The pause before a start: doubled from one early death to the next, short again after a long life."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._next_s = first_s

    def after(self, life_s: float) -> float:
        """The pause after a life of `life_s`."""
        if life_s >= LONGEST_PAUSE_S:
            self._next_s = self._first_s
        pause_s = self._next_s
        self._next_s = min(LONGEST_PAUSE_S, pause_s * 2)
        return pause_s


def _described(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
