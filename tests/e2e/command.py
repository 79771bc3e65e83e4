"""The command `hasty`, run as its users run it: in a pipe, or on a terminal."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-m", "hasty")


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str


def environment(url: str, home: Path, **more: str) -> Mapping[str, str]:
    """The environment of a user whose home is empty."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("HASTY_", "XDG_", "NO_COLOR"))}
    return {**outside, "HASTY_URL": url, "HOME": str(home), "TERM": "xterm", "COLUMNS": "200", **more}


@dataclass(frozen=True)
class Command:
    """The command, for one server."""

    env: Mapping[str, str]

    async def start(self, *arguments: str, **more: str) -> asyncio.subprocess.Process:
        """Start it in pipes."""
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env={**self.env, **more},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, stdin: str = "", **more: str) -> Ran:
        """Run it in pipes, to its end."""
        process = await self.start(*arguments, **more)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def on_terminal(self, *arguments: str, **more: str) -> AsyncIterator["Terminal"]:
        """Run it on a terminal of its own; when the block is left, it has ended."""
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, env={**self.env, **more}, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        terminal = Terminal(process)
        reading = asyncio.create_task(asyncio.to_thread(terminal.read, ours))
        try:
            yield terminal
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await reading
            os.close(ours)


@dataclass
class Terminal:
    """A terminal, and the command on it."""

    process: asyncio.subprocess.Process
    shown: str = ""
    raw: bytearray = field(default_factory=bytearray)

    def read(self, terminal: int) -> None:
        """Read what is shown, to the command's end."""
        with contextlib.suppress(OSError):  # how a terminal ends
            while chunk := os.read(terminal, 4096):
                self.raw += chunk
                self.shown = self.raw.decode(errors="replace")

    def press_ctrl_c(self) -> None:
        """Interrupt the command."""
        self.process.send_signal(signal.SIGINT)
