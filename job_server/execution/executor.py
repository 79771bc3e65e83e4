"""Runs handlers in child processes, and decides what becomes of runs whose child has died."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from hasty.executor.channel import Message
from hasty.jobs import Failure, Kind, Reason, Status, Way
from hasty.server.runtime.logs import get_logger
from job_server.execution.child import Child, Start
from job_server.execution.children import RESTART_MOST_S, Children
from job_server.execution.losses import Losses, Next, after_loss
from job_server.runs import Progress, Result, Run

log = get_logger(__name__)

NEIGHBOURS_GET_S: Final = 60.0
"""How long the other runs in a child may go on that is to be killed because of one that does not stop."""

_STATUSES: Final = {
    "finished": Status.FINISHED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "snoozed": Status.PROCESSING,
    "refused": None,
}


class _Entry:
    """A turn that was started here and has not ended."""

    __slots__ = ("alone", "cancelled", "child", "ended", "kind", "losses", "run", "runs", "stuck")

    def __init__(self, run: Run, kind: Kind | None, ended: Callable[[Result], None]) -> None:
        self.run = run
        self.kind = kind
        self.ended = ended
        self.child: Child | None = None
        self.alone = run.alone
        self.runs = run.run
        self.losses = Losses()
        self.cancelled = False
        self.stuck = False

    @property
    def turn_id(self) -> str:
        """The turn that it runs."""
        return self.run.turn.turn_id

    @property
    def is_at_most_once(self) -> bool:
        """Whether it must not be started twice."""
        return self.kind is not None and self.kind.at_most_once


class Executor:
    """Runs turns by the handlers of a module.

    `progress` says how far runs are. When the kinds change, `on_kinds` is called, and when a place is free again,
    `on_slot_freed`.
    """

    def __init__(self, start: Start | None, *, watch: bool = False) -> None:
        self.progress: dict[str, Progress] = {}
        self.on_kinds: Callable[[], None] = lambda: None
        self.on_slot_freed: Callable[[], None] = lambda: None
        self._start = start
        self._children = Children(start, self, watch=watch)
        self._entries: dict[str, _Entry] = {}
        self._waiting: list[_Entry] = []
        self._used: Counter[Way] = Counter()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, start: Start | None, *, watch: bool = False) -> AsyncIterator[Executor]:
        """Run children until the end; without `start`, there are no handlers."""
        executor = cls(start, watch=watch)
        async with executor._children.running():
            yield executor

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The kinds that are served here."""
        return self._children.kinds

    @property
    def problem(self) -> str | None:
        """Why the handlers cannot be loaded, if they cannot."""
        return self._children.problem

    @property
    def reload(self) -> Callable[[], None]:
        """Loads the code anew: runs end where they are, new ones start with the new code."""
        return self._children.reload

    def free_slots(self, kind: str) -> int:
        """How many more turns of a kind have a place."""
        known = self.kinds.get(kind)
        if known is None or self._start is None:
            return 0
        return max(self._start.places[_places_of(known.way)] - self._used[_places_of(known.way)], 0)

    @property
    def free_places(self) -> int:
        """How many more turns have a place, of whatever kinds are served."""
        if self._start is None:
            return 0
        ways = {_places_of(kind.way) for kind in self.kinds.values()}
        return sum(max(self._start.places[way] - self._used[way], 0) for way in ways)

    # -- what is started ----------------------------------------------------------------------------------------------

    def start(self, run: Run, ended: Callable[[Result], None]) -> None:
        """Start a run; `ended` is called once, later."""
        task = run.turn.task
        entry = _Entry(run, None if task is None else self.kinds.get(task.kind), ended)
        self._entries[entry.turn_id] = entry
        if entry.kind is not None:
            self._used[_places_of(entry.kind.way)] += 1
        self._place(entry)

    def cancel(self, turn_id: str) -> None:
        """Ask a run to stop; what comes of it is told as ever."""
        entry = self._entries.get(turn_id)
        if entry is None:
            return
        entry.cancelled = True
        if entry.child is not None:
            entry.child.send("cancel", turn_id)
        elif entry in self._waiting:
            self._waiting.remove(entry)
            self._end(entry, _result(entry, self._children.version, Status.CANCELLED))

    def stop(self, turn_id: str) -> None:
        """Stop a run, of which nothing is told any more."""
        entry = self._entries.get(turn_id)
        if entry is not None:
            entry.ended = _ignore
            self.cancel(turn_id)

    def _place(self, entry: _Entry) -> None:
        """Give a run to a child, or have it wait for one."""
        current = self._children.current
        if entry.alone:
            self._children.begin(self._run_alone(entry), f"alone: {entry.turn_id}")
        elif current is None or not current.takes_runs:
            self._waiting.append(entry)
        else:
            _give(entry, current)

    async def _run_alone(self, entry: _Entry) -> None:
        def give(child: Child) -> bool:
            if entry.cancelled:
                return False
            _give(entry, child)
            return True

        await self._children.run_alone(give)
        if entry.child is not None or self._entries.get(entry.turn_id) is not entry:
            return
        if entry.cancelled:
            self._end(entry, _result(entry, self._children.version, Status.CANCELLED))
        else:
            # It could not be started, or could not load the handlers.
            await asyncio.sleep(RESTART_MOST_S)
            self._place(entry)

    # -- what is heard of it ------------------------------------------------------------------------------------------

    def on_loaded(self, *, changed: bool) -> None:
        """Give the child that was loaded what waits for it."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            self._place(entry)
        if changed:
            self.on_kinds()

    def on_message(self, child: Child, message: Message) -> None:
        """Take a message about a run."""
        match message:
            case ["ended", str(turn_id), dict() as outcome] if turn_id in child.turns:
                child.turns.discard(turn_id)
                entry = self._entries.get(turn_id)
                if entry is not None:
                    self._on_ended(child, entry, outcome)
            case ["progress", str(turn_id), int() | float() as done, str(note)] if turn_id in child.turns:
                self.progress[turn_id] = Progress(float(done), note, time.time())
            case ["log", turn_id, str(stream), str(line)]:
                entry = self._entries.get(turn_id) if isinstance(turn_id, str) else None
                log.info("handler_output", stream=stream, line=line, **({} if entry is None else _facts(entry)))
            case ["dropped", int(lines)]:
                log.warning("handler_output_dropped", pid=child.pid, lines=lines)
            case ["stuck", str(turn_id)] if turn_id in child.turns:
                self._on_stuck(child, turn_id)
            case ["lost", str(turn_id)] if turn_id in child.turns:
                self.on_lost(child, turn_id)

    def on_output(self, stream: str, line: str) -> None:
        """Log a line of which nobody knows which run wrote it."""
        log.info("handler_output", stream=stream, line=line)

    def on_lost(self, child: Child, turn_id: str) -> None:
        """Decide what becomes of a run whose process has died."""
        child.turns.discard(turn_id)
        entry = self._entries.get(turn_id)
        if entry is None:
            return
        was_alone, entry.child = entry.alone, None
        if entry.cancelled:
            self._end(entry, _result(entry, self._children.version, Status.CANCELLED))
            return
        if entry.stuck:
            self._end(entry, _result(entry, self._children.version, Status.FAILED, _too_late(entry)))
            return
        # One that only stood beside a run that did not stop is not blamed.
        if not any(other.stuck and other.child is child for other in self._entries.values()):
            entry.losses = entry.losses.after(alone=was_alone)
        decided = after_loss(entry.losses, alone_from_start=entry.run.alone, at_most_once=entry.is_at_most_once)
        if decided is Next.FAIL:
            self._end(entry, _result(entry, self._children.version, Status.FAILED, _lost(entry), final=True))
            return
        entry.alone = decided is Next.ALONE
        entry.runs += 1
        self._place(entry)

    def _on_ended(self, child: Child, entry: _Entry, outcome: dict[str, Any]) -> None:
        try:
            result = _read(entry, outcome, child.version)
        except (KeyError, TypeError, ValueError):
            # Somebody else wrote it to the socket: what this child says is worth nothing any more.
            child.turns.add(entry.turn_id)
            child.kill("wrote an ending that cannot be read")
            return
        self._end(entry, result)

    def _on_stuck(self, child: Child, turn_id: str) -> None:
        """Retire a child because of a run that does not stop: its neighbours get some time, then it is killed."""
        entry = self._entries.get(turn_id)
        if entry is None or entry.stuck:
            return
        entry.stuck = True
        child.retired = True
        log.warning("run_does_not_stop", **_facts(entry), pid=child.pid)
        self._children.begin(_kill_retired(child, self._entries), f"retire child {child.pid}")

    def _end(self, entry: _Entry, result: Result) -> None:
        if self._entries.get(entry.turn_id) is entry:
            del self._entries[entry.turn_id]
            self.progress.pop(entry.turn_id, None)
            if entry.kind is not None:
                self._used[_places_of(entry.kind.way)] -= 1
            entry.ended(result)
            self.on_slot_freed()


async def _kill_retired(child: Child, entries: Mapping[str, _Entry]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + NEIGHBOURS_GET_S
    while loop.time() < deadline and any(  # noqa: ASYNC110 - only the child itself knows when its runs end
        not entry.stuck for turn_id in child.turns if (entry := entries.get(turn_id)) is not None
    ):
        await asyncio.sleep(0.1)
    child.kill("had a run that did not stop")


def _result(
    entry: _Entry, version: str, status: Status, failure: Failure | None = None, *, final: bool = False
) -> Result:
    now = time.time()
    return Result(status, now, now, version, entry.runs, failure=failure, final=final)


def _give(entry: _Entry, child: Child) -> None:
    turn, task = entry.run.turn, entry.run.turn.task
    entry.child = child
    child.turns.add(turn.turn_id)
    spec = {
        "job_id": turn.job_id,
        "kind": "" if task is None else task.kind,
        "input": "{}" if task is None else task.input,
        "attempt": 1 if task is None else task.attempt,
        "run": entry.runs,
        "timeout_s": 3600 if entry.kind is None else entry.kind.timeout_s,
        "labels": () if task is None else task.labels,
    }
    child.send("run", turn.turn_id, spec)
    if entry.cancelled:
        child.send("cancel", turn.turn_id)


def _facts(entry: _Entry) -> dict[str, str]:
    task = entry.run.turn.task
    return {"job_id": entry.run.turn.job_id, "kind": "" if task is None else task.kind}


def _too_late(entry: _Entry) -> Failure:
    limit_s = 0.0 if entry.kind is None else entry.kind.timeout_s
    return Failure(Reason.TIMEOUT, message=f"it took longer than {limit_s:g} s, and did not stop")


def _lost(entry: _Entry) -> Failure:
    if entry.is_at_most_once:
        return Failure(Reason.LOST, message="the process that ran it died, and it must not run twice")
    runs = entry.losses.in_company + entry.losses.alone
    return Failure(Reason.LOST, message=f"the process that ran it died in {runs} runs, at last with it alone")


def _read(entry: _Entry, outcome: dict[str, Any], version: str) -> Result:
    failure = outcome.get("failure")
    return Result(
        _STATUSES[outcome["status"]],
        float(outcome["started_at"]),
        float(outcome["ended_at"]),
        version,
        entry.runs,
        outcome.get("output"),
        None if failure is None else Failure(**{**failure, "reason": Reason(failure["reason"])}),
        bool(outcome.get("final", False)),
        float(outcome.get("delay_s", 0.0)),
    )


def _places_of(way: Way) -> Way:
    """Commands and handlers with processes of their own share their places."""
    return Way.PROCESS if way is Way.COMMAND else way


def _ignore(_result: Result) -> None:
    """Nobody asks any more."""
