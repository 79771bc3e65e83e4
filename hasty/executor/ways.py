"""The ways of running that need no other process: on the loop, and in threads."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hasty.executor import forks, outcomes
from hasty.executor.outcomes import Outcome
from hasty.executor.running import CURRENT, Running, Runs


class OnLoop:
    """Runs async handlers, each in a task."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, one: Running) -> None:
        """Start a run."""
        task = self._loop.create_task(self._run(one), name=one.turn_id)
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_done, one))
        one.stop = partial(_cancel, task)
        self._runs.begin(one)

    def _on_done(self, one: Running, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Before its first step: nothing of it ran that could have told.
            self._runs.end(one, outcomes.cancelled())

    async def _run(self, one: Running) -> None:
        CURRENT.set(one.turn_id)
        handler = one.handler
        try:
            arguments = handler.parse(one.input)
            if handler.context_name is None and handler.function is not None:
                value = await handler.function(**arguments)
            else:
                value = await handler.call(arguments, self._runs.context(one))
            outcome = outcomes.of_return(handler, value)
        except asyncio.CancelledError as error:
            # Its own, unless it was told to stop.
            outcome = outcomes.cancelled() if one.reason is not None else outcomes.of_error(error)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and its run ends with it
            outcome = outcomes.of_error(error)
        self._runs.end(one, outcome)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class InThreads:
    """Runs handlers that are not async, each in a thread of a pool."""

    def __init__(self, runs: Runs, threads: int) -> None:
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=forks.THREAD_PREFIX)

    def start(self, one: Running) -> None:
        """Start a run as soon as there is a thread."""
        self._pool.submit(contextvars.copy_context().run, self._run, one)

    def _run(self, one: Running) -> None:
        CURRENT.set(one.turn_id)
        if one.reason is not None:
            self._runs.end_from_thread(one, outcomes.cancelled())
            return
        self._loop.call_soon_threadsafe(self._runs.begin, one)
        self._runs.end_from_thread(one, called(one, self._runs))


def called(one: Running, runs: Runs) -> Outcome:
    """Call a handler that is not async, here and now; what comes of it."""
    try:
        return outcomes.of_return(one.handler, _call(one, lambda: runs.context(one)))
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and its run ends with it
        return outcomes.of_error(error)


def _call(one: Running, context: Callable[[], object]) -> object:
    handler = one.handler
    arguments = handler.parse(one.input)
    return handler.call(arguments, context())  # type: ignore[arg-type]  # what `Runs.context` makes
