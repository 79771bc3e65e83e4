"""Processes whose end is seen when they end, and not when the last one closes what they have written to."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process, SubprocessStreamProtocol
from typing import Any, Final

LINE_MAX: Final = 64 * 1024
"""Bytes that a reader of a process's output keeps for its caller; it stops reading at twice as many."""


class _Protocol(SubprocessStreamProtocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=LINE_MAX, loop=loop)
        self.exited: asyncio.Future[None] = loop.create_future()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set_result(None)


class Spawned:
    """A process that was started by `spawn`.

    `asyncio.subprocess.Process.wait` of Python 3.11 returns when the output is closed as well. A process that has left
    the group, as a daemon does, can hold it open for ever.
    """

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport, exited: asyncio.Future[None]) -> None:
        self.pid = process.pid
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.stderr = process.stderr
        self._transport = transport
        self._exited = exited

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._transport.get_returncode()

    async def wait(self) -> int:
        """Wait for its end; the exit code."""
        await asyncio.shield(self._exited)
        code = self._transport.get_returncode()
        assert code is not None  # noqa: S101 - it has exited
        return code

    def close(self) -> None:
        """Read no more of its output: the readers come to their end. A process that still runs is killed."""
        self._transport.close()


async def spawn(*argv: str, **options: Any) -> Spawned:
    """Start a process; `options` are those of `asyncio.create_subprocess_exec`.

    Raises:
        OSError: when it cannot be started.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(lambda: _Protocol(loop), *argv, **options)
    return Spawned(Process(transport, protocol, loop), transport, protocol.exited)
