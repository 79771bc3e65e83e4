"""The child: loads handlers and runs them, see the package."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import traceback
from dataclasses import asdict
from typing import Any, Final

from hasty.executor import forks
from hasty.executor.channel import Channel, Message
from hasty.executor.output import LineWriter
from hasty.executor.process import prepare
from hasty.executor.processes import InProcesses
from hasty.executor.running import Running, Runs
from hasty.executor.ways import InThreads, OnLoop
from hasty.handlers import Loaded, load
from hasty.jobs import Way

EXIT_BROKEN: Final = 3


class Child:
    """Takes what its parent sends, until it is drained or its parent is gone."""

    def __init__(self, loaded: Loaded, target: str, places: dict[str, int]) -> None:
        self._loaded = loaded
        self._channel = Channel(self._receive, self._leave)
        self._runs = Runs(self._channel)
        self._runs.on_idle = self._on_idle
        on_loop, in_threads = OnLoop(self._runs), InThreads(self._runs, places["thread"])
        self._in_processes = InProcesses(self._runs, target, places["process"])
        self._ways = {
            Way.ASYNC: on_loop.start,
            Way.THREAD: in_threads.start,
            Way.PROCESS: self._in_processes.start,
            Way.COMMAND: self._in_processes.start,
        }
        self._draining = False
        self._over = asyncio.Event()

    async def serve(self, channel: socket.socket) -> None:
        """Greet the parent, and run what it sends."""
        loop = asyncio.get_running_loop()
        forks.leave_loop(loop)
        await loop.create_connection(lambda: self._channel, sock=channel)
        sys.stdout = LineWriter(lambda line: self._runs.log("stdout", line))
        sys.stderr = LineWriter(lambda line: self._runs.log("stderr", line))
        kinds = [asdict(handler.kind) for handler in self._loaded.handlers.values()]
        files = [str(file) for file in self._loaded.files]
        hello = {"pid": os.getpid(), "version": self._loaded.version, "kinds": kinds, "files": files}
        self._channel.send("hello", hello)
        await self._over.wait()

    def _receive(self, message: Message) -> None:
        match message:
            case ["run", str(turn_id), dict() as spec]:
                self._start(turn_id, spec)
            case ["cancel", str(turn_id)]:
                self._runs.cancel(turn_id)
            case ["ping", number]:
                self._channel.send("pong", number)
                self._runs.send_dropped()
            case ["drain"]:
                self._draining = True
                self._on_idle()

    def _start(self, turn_id: str, spec: dict[str, Any]) -> None:
        handler = self._loaded.handlers.get(spec["kind"])
        if handler is None:
            # The code is another one by now.
            self._channel.send("ended", turn_id, {"status": "refused", "started_at": 0, "ended_at": 0})
            return
        one = Running(turn_id, handler, spec)
        self._runs.add(one)
        self._ways[handler.kind.way](one)

    def _on_idle(self) -> None:
        if self._draining and not len(self._runs):
            self._runs.send_dropped()
            # Which leaves when everything is written.
            self._channel.close()

    def _leave(self, _why: str) -> None:
        self._in_processes.kill_all()
        self._over.set()


def main(arguments: list[str]) -> int:
    """Load the handlers, and run what comes; the exit code."""
    descriptor, target, places = arguments
    channel = socket.socket(fileno=int(descriptor))
    prepare(channel)
    try:
        loaded = load(target)
    except BaseException:  # noqa: BLE001 - a module may raise anything, SystemExit included
        channel.sendall(json.dumps([["broken", traceback.format_exc()]]).encode() + b"\n")
        return EXIT_BROKEN
    # Lines that were printed meanwhile go before everything else.
    sys.stdout.flush()
    asyncio.run(_serve(loaded, target, json.loads(places), channel))
    return 0


async def _serve(loaded: Loaded, target: str, places: dict[str, int], channel: socket.socket) -> None:
    await Child(loaded, target, places).serve(channel)
    # Handlers that do not end would hold up an orderly end of the loop and its threads.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
