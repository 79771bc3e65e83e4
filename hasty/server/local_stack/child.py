"""A child of the stack: started, started again when it dies, and ended so that nothing of it is left."""

import asyncio
import shutil
import signal

from hasty.server.local_stack.errors import WouldNotStartError
from hasty.server.local_stack.part import State
from hasty.server.local_stack.supervised import PROBE_EVERY_S, Supervised


class Child(Supervised):
    """One child; it is up, or on its way there, until it is to stay down."""

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
                    reason = await self.part.probe()
                    if reason is None and process is self._process:
                        return
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError:
            raise WouldNotStartError(f"{self.name} was not ready within {timeout_s:g} s: it {reason}") from None

    async def answers(self) -> str | None:
        """Ask it once, in its own protocol: None, or the reason why not."""
        return await self.part.probe()

    async def kill(self) -> None:
        """SIGKILL, seen through to its end; it is started again after a pause."""
        process = self._process
        if process is None:
            return
        process.kill()
        while self._process is process:
            await self._movement()

    async def restart(self) -> None:
        """End it as its program wants to be ended, by SIGKILL after its grace; it is started again after a pause."""
        process = self._process
        if process is None:
            return
        process.signal(self.part.stop_signal)
        try:
            async with asyncio.timeout(self.part.grace_s):
                while self._process is process:
                    await self._movement()
        except TimeoutError:
            await self.kill()

    async def stay_down(self) -> None:
        """SIGKILL, and no start before `start` is called."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
        await self._wait_for_end()

    async def terminate(self) -> int:
        """End it as its program wants to be ended, by SIGKILL after its grace; its exit code, 0 when it was down."""
        self._wanted = False
        process = self._process
        if process is None:
            await self._wait_for_end()
            return 0
        self._move_to(State.STOPPING)
        process.signal(self.part.stop_signal)
        process.signal(signal.SIGCONT)  # a paused process would not see the first signal
        if not await self._ended_within(self.part.grace_s):
            self._tell(f"{self.name} did not end within {self.part.grace_s:g} s: killed")
            process.kill()
        await self._wait_for_end()
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
        if self.part.data is not None:
            shutil.rmtree(self.part.data, ignore_errors=True)

    def close(self) -> None:
        """Give its ports back."""
        for port in self.part.ports:
            port.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)
