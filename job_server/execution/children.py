"""The child processes of a job-server: one that takes what is new, others that end, and some with a single run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from hasty.executor.channel import Message
from hasty.jobs import Kind
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import end
from job_server.execution.child import Child, Hello, Start, described
from job_server.metrics import CHILDREN_LOST

log = get_logger(__name__)

RESTART_FIRST_S: Final = 0.1
RESTART_MOST_S: Final = 5.0
STABLE_AFTER_S: Final = 10.0
"""A child that lived for so long is replaced without a pause."""

ALONE_AT_ONCE: Final = 8
"""Children with a single run at the same time; others wait. All of them have to fit into the memory of a container with
512 MiB: where they do not, the kernel kills them, and innocent runs are blamed for the end of their child."""

STARTING_AT_ONCE: Final = 2
"""Those among them that are starting: a start costs hundreds of times what a run in company costs. Were it not for this
bound, a busy machine would get busier: late acknowledgements make runs that are alone."""

LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether the files of the handlers have changed."""


class Listener(Protocol):
    """What hears of children; see `job_server.execution.executor.Executor`."""

    def on_message(self, child: Child, message: Message) -> None:
        """Take a message of a child."""
        ...

    def on_loaded(self, *, changed: bool) -> None:
        """Note that there is a child that takes runs; whether it has other kinds than the one before."""
        ...

    def on_lost(self, child: Child, turn_id: str) -> None:
        """Note that a child is gone, with a turn that had not ended."""
        ...

    def on_output(self, stream: str, line: str) -> None:
        """Take a line that a child wrote to its own output."""
        ...


class Children:
    """Starts, watches and replaces the children.

    `current` is the one that takes what is new, `kinds` are what it serves, `problem` says why the handlers cannot be
    loaded.
    """

    def __init__(self, start: Start | None, listener: Listener, *, watch: bool) -> None:
        self.current: Child | None = None
        self.kinds: Mapping[str, Kind] = {}
        self.version = ""
        self.problem: str | None = None
        self._start = start
        self._listener = listener
        self._watch = watch
        self._alone_places = asyncio.Semaphore(ALONE_AT_ONCE)
        self._starting = asyncio.Semaphore(STARTING_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reload = asyncio.Event()
        self._files: dict[Path, float] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run children until the end; without anything to start, none."""
        if self._start is not None:
            self.begin(self._keep_current(self._start), "children")
            self.begin(self._watch_files(self._start), "watch handlers")
        try:
            yield
        finally:
            await end(list(self._tasks))

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside, until the end at most."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def reload(self) -> None:
        """Load the code anew: runs end where they are, new ones start with the new code."""
        self._reload.set()

    async def run_alone(self, give: Callable[[Child], bool]) -> None:
        """Start a child for one run, which `give` gives to it, and see it to its end.

        Nothing is started when `give` says, of no child yet, that it is not needed any more.
        """
        start = self._start
        async with self._alone_places:
            if start is None:
                return
            async with contextlib.AsyncExitStack() as starting:
                await starting.enter_async_context(self._starting)
                try:
                    child = await Child.started(start, self._listener.on_message, self._listener.on_output)
                except OSError as error:
                    log.warning("child_not_started", reason=str(error))
                    return
                child.retired = True
                living = asyncio.create_task(self._live(child), name=f"child {child.pid}")
                try:
                    said = await child.hello
                    await starting.aclose()
                    if not isinstance(said, str) and give(child):
                        child.drain()
                        await asyncio.shield(living)
                finally:
                    child.kill("was not needed any more")
                    await end([living])

    async def _keep_current(self, start: Start) -> None:
        """Keep one child running that takes what is new, and replace it when it dies, is retired, or has old code."""
        pause_s = RESTART_FIRST_S
        while True:
            self._reload.clear()
            began = asyncio.get_running_loop().time()
            child = await self._new_child(start)
            if child is None:
                # With the code as it is, the next one would not do better, unless what it needs is there by then.
                await self._until_reload(pause_s if self.current is None else None)
                pause_s = min(pause_s * 2, RESTART_MOST_S)
                continue
            while self.current is child and child.takes_runs and not self._reload.is_set():
                await self._until_reload(0.05)
            if asyncio.get_running_loop().time() - began >= STABLE_AFTER_S or self._reload.is_set():
                pause_s = RESTART_FIRST_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RESTART_MOST_S)

    async def _new_child(self, start: Start) -> Child | None:
        """Start a child and make it the current one; None when it cannot load the handlers."""
        try:
            child = await Child.started(start, self._listener.on_message, self._listener.on_output)
        except OSError as error:
            self._note_problem(start, f"{start.python} cannot be started: {error}", "")
            return None
        self.begin(self._live(child), f"child {child.pid}")
        said = await child.hello
        if isinstance(said, str):
            last_line = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
            self._note_problem(start, f"{start.work} cannot be loaded: {last_line}", said)
            return None
        self._take_over(child, said)
        return child

    def _take_over(self, child: Child, hello: Hello) -> None:
        old, self.current = self.current, child
        if old is not None and not old.retired:
            old.drain()
        self.problem = None
        self.version = hello.version
        self._files = _times(hello.files)
        log.info("handlers_loaded", kinds=sorted(hello.kinds), version=hello.version, pid=child.pid)
        changed = hello.kinds != self.kinds
        self.kinds = hello.kinds
        self._listener.on_loaded(changed=changed)

    def _note_problem(self, start: Start, problem: str, trace: str) -> None:
        if problem != self.problem:
            log.error("handlers_not_loaded", reason=problem, traceback=trace)
        self.problem = problem
        if not self._files:
            self._files = _times([Path(start.work)])

    async def _live(self, child: Child) -> None:
        code = await child.live()
        if self.current is child:
            self.current = None
        loaded = child.hello.done() and not isinstance(child.hello.result(), str)
        drained = child.retired and code == 0
        if child.turns or (loaded and not drained):
            why = child.why if child.why != "died" else f"ended with {described(code)}"
            log.warning("child_lost", pid=child.pid, reason=why, runs=len(child.turns))
            CHILDREN_LOST.inc()
        for turn_id in list(child.turns):
            self._listener.on_lost(child, turn_id)

    async def _until_reload(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._reload.wait()

    async def _watch_files(self, start: Start) -> None:
        """Reload when a file of the handlers changes: always while they cannot be loaded, else where it is wanted."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if (self._watch or self.problem is not None) and _times(self._files) != self._files:
                self._files = _times(self._files)
                log.info("handlers_changed", work=start.work)
                self.reload()


def _times(files: Iterable[Path]) -> dict[Path, float]:
    found: dict[Path, float] = {}
    for file in files:
        try:
            found[file] = file.stat().st_mtime
        except OSError:
            found[file] = 0.0
    return found
