"""The life of a process: its loop, its signals, the ways it may end, and a watchdog for the day it hangs."""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvloop

from hasty.server.runtime import crash_points
from hasty.server.runtime.logs import get_logger

EXIT_FAILED = 1
EXIT_SILENT = 70
EXIT_SECOND_SIGNAL = 130
# How long threads of libraries may hold up the end once everything is done.
EXIT_GRACE_S = 2.0
CANCEL_AGAIN_S = 0.2

# Motor runs its calls in threads. With Python's own 5 ms, a thread that has its answer waits that long for a busy loop
# to let go of the interpreter, several times a call; measured, the whole service was half as fast. With 0.2 ms, threads
# wake five times as often only to find the loop still busy: a handler's job cost 5 to 10 % more.
SWITCH_INTERVAL_S = 0.001

# Hardly anything here is garbage in a circle, and a process may hold ten thousand jobs: collect ten times more rarely.
GC_THRESHOLDS = (10_000, 20, 20)

log = get_logger(__name__)


class FatalExit(Exception):
    """The process must end now, with this exit code and this one line for its operator."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Stopping:
    """Says to all parts of a process that it must stop; `reason` says why."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason: str | None = None

    def set(self, reason: str = "asked to stop") -> None:
        """Start stopping; only the first reason counts."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    def is_set(self) -> bool:
        """Whether the process is stopping."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when the process is to stop."""
        await self._event.wait()


class LoopWatchdog:
    """A thread that ends the process with code 70 when the loop has not run for `silence_s` seconds.

    Time counts only while the thread itself runs, in ticks of a second or less: a process that was stopped by SIGSTOP
    or that slept with its machine is not blamed for it. Where every thread is, is written to stderr first. Out of its
    reach is a call into C that never lets go of the interpreter.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_s: float) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._tick_s = min(1.0, silence_s / 4)
        self._silent_s = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; returns when the thread is gone."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._tick_s):
            self._silent_s += self._tick_s
            if self._silent_s > self._silence_s:
                _report_and_exit(self._silence_s)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
                self._loop.call_soon_threadsafe(self._heard)

    def _heard(self) -> None:
        self._silent_s = 0.0


def run(
    main: Callable[[Stopping], Coroutine[None, None, int | None]], silence_s: float, faults_dir: Path | None = None
) -> NoReturn:
    """Run `main` on uvloop as the whole of this process and exit with the code it returns (None: 0).

    SIGTERM or SIGINT sets the `Stopping` that `main` was given, a second one ends the process at once with 130.
    `FatalExit` ends it with its code and one line, any other exception with 1 and its details in the log, the
    `LoopWatchdog` with 70 after `silence_s` seconds. Once `main` has returned, the process is gone within
    `EXIT_GRACE_S` seconds. With `faults_dir`, tests can inject faults, see `crash_points`.

    Raises:
        SystemExit: always.
    """
    crash_points.install(faults_dir)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What was imported stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _return_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_whole_life(main, silence_s))
    sys.exit(code)


def _return_freed_memory() -> None:
    """Return to the system what importing has used and freed, 3 to 4 MB, where the C library would keep it: glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are gone.

    Once is not always enough: `asyncio.wait_for` of Python 3.11 and nats-py's flush can lose a cancellation that
    comes together with what they wait for, and a loop that lost it would go on for ever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_S)


async def _whole_life(main: Callable[[Stopping], Coroutine[None, None, int | None]], silence_s: float) -> int:
    loop = asyncio.get_running_loop()
    stopping = Stopping()
    _stop_on_signals(loop, stopping)
    watchdog = LoopWatchdog(loop, silence_s)
    watchdog.start()
    code = EXIT_FAILED
    try:
        code = await main(stopping) or 0
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outermost place there is
        code = _explain(error)
    finally:
        watchdog.stop()
        threading.Thread(target=_exit_anyway, args=(code,), name="exit", daemon=True).start()
    return code


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stopping: Stopping) -> None:
    """Plain handlers rather than the loop's own: the second signal must end a process whose loop is blocked."""
    signals: list[str] = []

    def on_signal(signum: int, _frame: FrameType | None) -> None:
        if signals:
            os._exit(EXIT_SECOND_SIGNAL)
        signals.append(signal.Signals(signum).name)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the end has come already
            loop.call_soon_threadsafe(stopping.set, signals[0])

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _explain(error: BaseException) -> int:
    """Log why the process ends and return its exit code."""
    parts = list(_parts(error))
    exits = [part for part in parts if isinstance(part, FatalExit)]
    others = [part for part in parts if not isinstance(part, FatalExit)]
    for other in others:
        log.critical("unexpected_failure", exc_info=other)
    if not exits:
        return EXIT_FAILED
    log.error("fatal_exit", reason=exits[0].message, exit_code=exits[0].code)
    return exits[0].code


def _parts(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside an exception group, however deep; any other exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _parts(part)
    else:
        yield error


def _report_and_exit(silence_s: float) -> NoReturn:
    # In a thread of its own, because what blocks the loop may be the very pipe that this report is written to.
    reporter = threading.Thread(target=_report, args=(silence_s,), name="loop-watchdog-report", daemon=True)
    reporter.start()
    reporter.join(timeout=EXIT_GRACE_S)
    os._exit(EXIT_SILENT)


def _report(silence_s: float) -> None:
    log.critical("event_loop_blocked", silence_s=silence_s, exit_code=EXIT_SILENT)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)


def _exit_anyway(code: int) -> None:
    """End the process even if a thread of a library never comes back, as one that waits for a frozen server."""
    threading.Event().wait(EXIT_GRACE_S)
    os._exit(code)
