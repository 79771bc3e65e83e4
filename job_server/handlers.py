"""The turns of handlers: run by the executor, concluded by their kind's policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from hasty.jobs import Kind, Report, Status, Turn
from job_server.domain import conclude
from job_server.runs import Result, Run
from job_server.work import Stop


class Executor(Protocol):
    """What runs handlers; see `job_server.execution.Executor`."""

    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    def free_slots(self, kind: str) -> int: ...
    def start(self, run: Run, ended: Callable[[Result], None]) -> None: ...
    def cancel(self, turn_id: str) -> None: ...
    def stop(self, turn_id: str) -> None: ...


class HandlerWork:
    """Runs the turns of handlers.

    `root_kind` names the handler that does the root kind's work, if one does. `worker` names this process in reports.
    `chance` gives numbers from 0 to 1.
    """

    def __init__(self, executor: Executor, *, worker: str, root_kind: str | None, chance: Callable[[], float]) -> None:
        self._executor = executor
        self._chance = chance
        self.worker: Final = worker
        self.root_kind: Final = root_kind

    def free_slots(self, kind: str) -> int:
        """How many more turns of a kind may be started: its share of the places, which all kinds of its way have."""
        kinds = self._executor.kinds
        if kind not in kinds:
            return 0
        free = self._executor.free_slots(kind)
        sharing = sum(other.way is kinds[kind].way for other in kinds.values())
        return max(free // sharing, min(free, 1))

    def is_at_most_once(self, kind: str) -> bool:
        """Whether a turn of this kind must not be started twice."""
        known = self._executor.kinds.get(kind)
        return known is not None and known.at_most_once

    def start(
        self,
        turn: Turn,
        run: int,
        *,
        alone: bool,
        ended: Callable[[Status, float, Report], None],
        refused: Callable[[], None],
    ) -> Stop:
        """Start a turn. One of the two is called once, `refused` when the handler here does not understand it."""
        kind = None if turn.task is None else self._executor.kinds.get(turn.task.kind)

        def conclude_run(result: Result) -> None:
            conclusion = None if kind is None else conclude(turn, kind, result, self.worker, self._chance)
            if conclusion is None:
                refused()
            else:
                status, report = conclusion
                ended(status, round(max(report.ended_at - report.started_at, 0.0), 3), report)

        self._executor.start(Run(turn, run, alone), conclude_run)
        return partial(self._executor.stop, turn.turn_id)

    def cancel(self, turn_id: str) -> None:
        """Ask a turn's handler to stop; its end is told as ever."""
        self._executor.cancel(turn_id)
