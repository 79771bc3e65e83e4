"""The ways of running that need another process: handlers with `process=True`, and commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from hasty.executor import outcomes
from hasty.executor.channel import Channel, Message
from hasty.executor.groups import Groups, signal_group
from hasty.executor.outcomes import Outcome
from hasty.executor.running import CURRENT, Running, Runs
from hasty.executor.spawn import Spawned, spawn
from hasty.jobs import Reason

KILL_AFTER_S: Final = 8.0
"""Seconds from SIGTERM to SIGKILL: less than a run has to stop."""

DRAIN_S: Final = 1.0
"""Seconds for which the output of a command that has ended is read, when somebody else holds it open."""

STDERR_MAX: Final = 64 * 1024
"""Bytes of a command's standard error that are kept: the last ones."""


class InProcesses:
    """Runs what needs a process, so many at a time; the others wait."""

    def __init__(self, runs: Runs, target: str, processes: int) -> None:
        self._runs = runs
        self._target = target
        self._places = asyncio.Semaphore(processes)
        self._idle: list[_Worker] = []
        self._groups = Groups()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, one: Running) -> None:
        """Start a run as soon as there is a place."""
        task = asyncio.create_task(self._run(one), name=one.turn_id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kill_all(self) -> None:
        """Kill every process of every run, now."""
        self._groups.kill()

    async def _run(self, one: Running) -> None:
        CURRENT.set(one.turn_id)
        async with self._places:
            if one.reason is not None:
                self._runs.end(one, outcomes.cancelled())
                return
            self._runs.begin(one)
            try:
                outcome = await (self._command(one) if one.handler.argv else self._in_worker(one))
            except OSError as error:
                message = f"the process cannot be started: {error}"
                outcome = outcomes.failed(Reason.EXCEPTION, message, kind=type(error).__name__)
            self._runs.end(one, outcome)

    async def _in_worker(self, one: Running) -> Outcome | None:
        worker = self._idle.pop() if self._idle else await _Worker.started(self._target, self._runs)
        self._groups.note(worker.pid)
        stopping = _Stopping(worker.pid)
        one.stop = stopping.begin
        if one.reason is not None:
            stopping.begin()
        outcome = await worker.run(one)
        stopping.end()
        if outcome is not None and one.reason is None:
            self._idle.append(worker)
        else:
            await worker.end()
            self._groups.forget(worker.pid)
        return outcome

    async def _command(self, one: Running) -> Outcome:
        spec = one.spec
        process = await spawn(
            *one.handler.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={
                **os.environ,
                "HASTY_JOB_ID": spec["job_id"],
                "HASTY_KIND": spec["kind"],
                "HASTY_ATTEMPT": str(spec["attempt"]),
                "HASTY_RUN": str(spec["run"]),
            },
        )
        self._groups.note(process.pid)
        stopping = _Stopping(process.pid)
        one.stop = stopping.begin
        if one.reason is not None:
            stopping.begin()
        reading = asyncio.gather(
            _read(process.stdout, process.pid), _read_last(process.stderr), _feed(process.stdin, one.input)
        )
        try:
            code = await process.wait()
        finally:
            stopping.end()
            # What it has started and left behind ends with it.
            signal_group(process.pid, signal.SIGKILL)
            self._groups.forget(process.pid)
        out, err, _ = await _drained(reading, process)
        for line in err.decode("utf-8", "replace").splitlines():
            self._runs.log("stderr", line)
        if one.reason == "cancelled":
            return outcomes.cancelled() if code != 0 else outcomes.of_command(code, out, err)
        return outcomes.of_command(code, out, err)


class _Stopping:
    """Ends a process group: SIGTERM, and SIGKILL if it has not ended in time."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Ask it to end."""
        signal_group(self._group, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(KILL_AFTER_S, signal_group, self._group, signal.SIGKILL)

    def end(self) -> None:
        """Note that it has ended."""
        if self._timer is not None:
            self._timer.cancel()


class _Worker:
    """A process that runs one handler at a time; see `hasty.executor.worker`."""

    def __init__(self, process: asyncio.subprocess.Process, runs: Runs) -> None:
        self.pid = process.pid
        self._process = process
        self._runs = runs
        self._turn_id = ""
        self._ended: asyncio.Future[Outcome | None] | None = None
        self._over = False
        self.channel = Channel(self._receive, self._closed)

    @classmethod
    async def started(cls, target: str, runs: Runs) -> _Worker:
        """Start one; it loads the handlers when it is first used."""
        here, there = socket.socketpair()
        with there:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hasty.executor.worker", str(there.fileno()), target),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        worker = cls(process, runs)
        await asyncio.get_running_loop().create_connection(lambda: worker.channel, sock=here)
        return worker

    async def run(self, one: Running) -> Outcome | None:
        """Run a handler; None when the process died of it."""
        self._turn_id = one.turn_id
        self._ended = asyncio.get_running_loop().create_future()
        if self._over:
            return None
        self.channel.send("run", one.turn_id, one.spec)
        return await self._ended

    async def end(self) -> None:
        """See it to its end."""
        self.channel.close()
        signal_group(self.pid, signal.SIGKILL)
        await self._process.wait()

    def _receive(self, message: Message) -> None:
        match message:
            case ["ended", self._turn_id, dict() as outcome]:
                self._end_run(outcome)
            case ["progress", self._turn_id, int() | float() as done, str(note)]:
                self._runs.report(self._turn_id, float(done), note)
            case ["log", _, str(stream), str(line)]:
                # The connection was made in the first run, which is another one than runs now.
                self._runs.log(stream, line, self._turn_id)

    def _closed(self, _why: str) -> None:
        self._over = True
        self._end_run(None)

    def _end_run(self, outcome: dict[str, Any] | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(outcome)


async def _read(stream: asyncio.StreamReader | None, group: int) -> bytes:
    """Read everything, and keep one byte more than is allowed; a group that writes more is killed."""
    found = bytearray()
    while stream is not None and (some := await stream.read(65536)):
        found += some[: outcomes.STDOUT_MAX + 1 - len(found)]
        if len(found) > outcomes.STDOUT_MAX:
            signal_group(group, signal.SIGKILL)
    return bytes(found)


async def _read_last(stream: asyncio.StreamReader | None) -> bytes:
    """Read everything, and keep the last of it."""
    found = b""
    while stream is not None and (some := await stream.read(STDERR_MAX)):
        found = (found + some)[-STDERR_MAX:]
    return found


async def _feed(stream: asyncio.StreamWriter | None, text: str) -> None:
    """Write the input; a command need not read it."""
    if stream is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(json.dumps(json.loads(text)).encode() + b"\n")
        await stream.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.close()
        await stream.wait_closed()


async def _drained(reading: asyncio.Future[tuple[bytes, bytes, None]], process: Spawned) -> tuple[bytes, bytes, None]:
    """Return what was read of a process that has ended, though what has left its group may hold its output open."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        done, _ = await asyncio.wait([reading], timeout=DRAIN_S)
        # When it took much longer, it was this process that stood still.
        if done or loop.time() - began < 2 * DRAIN_S:
            process.close()
            return await reading
