"""A child process with handlers, as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hasty
from hasty.executor.channel import GONE, Channel, Message
from hasty.executor.output import OutputLimit
from hasty.executor.spawn import LINE_MAX, Spawned, spawn
from hasty.jobs import Kind, Way

HELLO_WITHIN_S: Final = 60.0
"""How long a child may take to import its handlers."""

PING_EVERY_S: Final = 1.0
DEAF_AFTER_S: Final = 5.0
"""A child that does not answer for so long is deaf, and is killed."""

ENDS_WITHIN_S: Final = 0.5
"""A child whose connection is gone and that does not end within so long is killed."""

FLOOD_PAUSE_S: Final = 0.002
"""After so many bytes that were left out, others than their reader have this process for a moment."""


@dataclass(frozen=True, slots=True)
class Start:
    """How children are started: `work` names the module with the handlers, `places` how many runs of each way."""

    work: str
    python: str
    version: str | None
    places: Mapping[Way, int]


@dataclass(frozen=True, slots=True)
class Hello:
    """What a child says when it has loaded its handlers."""

    version: str
    kinds: Mapping[str, Kind]
    files: tuple[Path, ...]


class Child:
    """A child process. `receive` gets its messages; `output` its lines, with the stream they came on.

    `hello` is done when it has loaded its handlers, with their `Hello`, or with the traceback of why it could not.
    """

    def __init__(
        self,
        process: Spawned,
        receive: Callable[[Child, Message], None],
        output: Callable[[str, str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.turns: set[str] = set()
        """The turns that were given to it and have not ended."""
        self.retired = False
        """Whether it gets nothing new."""
        self.hello: asyncio.Future[Hello | str] = loop.create_future()
        self.version = ""
        """That of the code it has loaded."""
        self._process = process
        self._receive = receive
        self._output = output
        self._limit = OutputLimit()
        self._channel = Channel(self._on_message, self._on_closed)
        self._answered_at = loop.time()
        self.why = "died"
        """What is known of its end."""
        self._gone = False

    @classmethod
    async def started(
        cls, start: Start, receive: Callable[[Child, Message], None], output: Callable[[str, str], None]
    ) -> Child:
        """Start one; it may not have loaded its handlers yet.

        Raises:
            OSError: when it cannot be started.
        """
        here, there = socket.socketpair()
        places = json.dumps({way.value: count for way, count in start.places.items()})
        try:
            with there:
                process = await spawn(
                    *(start.python, "-P", "-m", "hasty.executor", str(there.fileno()), start.work, places),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=[there.fileno()],
                    env=environment(start, os.environ),
                    start_new_session=True,
                )
        except OSError:
            here.close()
            raise
        child = cls(process, receive, output)
        await asyncio.get_running_loop().create_connection(lambda: child._channel, sock=here)
        return child

    @property
    def takes_runs(self) -> bool:
        """Whether it may get new runs."""
        return not (self.retired or self._gone)

    async def live(self) -> int:
        """Watch it until it has ended; its exit code, negative for a signal."""
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(self._read("stdout", self._process.stdout), name=f"stdout of child {self.pid}"),
                tasks.create_task(self._read("stderr", self._process.stderr), name=f"stderr of child {self.pid}"),
            ]
            pinging = tasks.create_task(self._ping(), name=f"ping child {self.pid}")
            try:
                code = await self._process.wait()
            finally:
                pinging.cancel()
                # What it has started, and would hold its output open.
                self.kill()
                await self._process.wait()
                await asyncio.wait(watching, timeout=1)  # Its guard, which kills what the child has started, as well.
                for task in watching:
                    task.cancel()
                self._process.close()
                self._channel.close()
                self._send_dropped()
        if not self.hello.done():
            self.hello.set_result(f"it ended with {described(code)} before it had loaded its handlers")
        return code

    def send(self, *message: Any) -> None:
        """Send a message."""
        self._channel.send(*message)

    def drain(self) -> None:
        """Have it leave when everything that it runs has ended."""
        self.retired = True
        self.send("drain")

    def kill(self, why: str = "was killed") -> None:
        """End it and its group, now."""
        if self._process.code is None:
            self.why = why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _on_message(self, message: Message) -> None:
        self._answered_at = asyncio.get_running_loop().time()
        match message:
            case ["hello", dict() as hello] if not self.hello.done():
                said = _hello(hello)
                self.version = said.version
                self.hello.set_result(said)
            case ["broken", str(trace)] if not self.hello.done():
                self.hello.set_result(trace)
            case ["pong", _]:
                pass
            case _:
                self._receive(self, message)

    def _on_closed(self, why: str) -> None:
        """Kill it where it cannot be understood any more; if it has just ended, its exit code says more."""
        self._gone = True
        delay_s = ENDS_WITHIN_S if why.startswith(GONE) else 0
        asyncio.get_running_loop().call_later(delay_s, self._kill_if_alive, f"its connection {why}")

    def _kill_if_alive(self, why: str) -> None:
        if self._process.code is None:
            self.kill(why)

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        started_at = loop.time()
        while True:
            slept_at = loop.time()
            await asyncio.sleep(PING_EVERY_S)
            self._send_dropped()
            if loop.time() - slept_at > DEAF_AFTER_S:
                # It was this process that stood still.
                self._answered_at = loop.time()
            if not self.hello.done():
                if loop.time() - started_at > HELLO_WITHIN_S:
                    self.kill(f"did not load its handlers within {HELLO_WITHIN_S:g} s")
                self._answered_at = loop.time()
                continue
            if loop.time() - self._answered_at > DEAF_AFTER_S + PING_EVERY_S:
                self.kill(f"did not answer for {DEAF_AFTER_S:g} s")
                return
            number += 1
            self.send("ping", number)

    async def _read(self, stream: str, reader: asyncio.StreamReader | None) -> None:
        """Pass on what it writes to its own output, line by line; a very long line in parts."""
        rest = b""
        while reader is not None and (some := await reader.read(LINE_MAX)):
            *lines, rest = (rest + some).split(b"\n")
            if len(rest) >= LINE_MAX:
                lines, rest = [*lines, rest], b""
            if not self._write(stream, lines):
                await asyncio.sleep(FLOOD_PAUSE_S)
        self._write(stream, [rest])

    def _write(self, stream: str, lines: list[bytes]) -> bool:
        """Pass lines on; False, and the rest of them is left out, when it is too much."""
        for number, line in enumerate(lines, start=1):
            text = line.decode("utf-8", "replace").rstrip()
            if text and not self._limit.admit(text):
                self._limit.drop(len(lines) - number)
                return False
            if text:
                self._output(stream, text)
        return True

    def _send_dropped(self) -> None:
        if dropped := self._limit.take_dropped():
            self._receive(self, ["dropped", dropped])


def environment(start: Start, given: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: the parent's without any setting of Hasty's, among them its credentials."""
    own = {name: value for name, value in given.items() if not name.startswith("HASTY_")}
    if start.version:
        own["HASTY_WORK_VERSION"] = start.version
    own["PYTHONUNBUFFERED"] = "1"
    # In a checkout, `hasty` is found by its path; where it is installed, the child's Python has its own.
    code = Path(hasty.__file__).resolve().parents[1]
    if "site-packages" not in code.parts:
        own["PYTHONPATH"] = os.pathsep.join([str(code), *([own["PYTHONPATH"]] if own.get("PYTHONPATH") else [])])
    return own


def described(code: int) -> str:
    """Say how a process ended."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _hello(said: dict[str, Any]) -> Hello:
    kinds = [Kind(**{**kind, "way": Way(kind["way"])}) for kind in said["kinds"]]
    return Hello(str(said["version"]), {kind.name: kind for kind in kinds}, tuple(map(Path, said["files"])))


DEFAULT_PYTHON: Final = sys.executable
