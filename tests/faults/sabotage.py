"""Starts a service without one of its guards: `python -m tests.faults.sabotage <guard>`.

Each guard is removed by replacing one thing; what the service does otherwise is its own code. The tests of the guards
see the checker object to a run with such a service, so a guard that is lost in the code is found by a run as well.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime


def _of(name: str) -> Any:
    """Give a module of the one service that this process is."""
    return importlib.import_module(name)


def no_unique_index() -> None:
    """Two api-servers that saw the same latest run both insert the next one."""
    indexes = _of("api_server.store").INDEXES
    indexes[:] = [{key: value for key, value in index.items() if key != "unique"} for index in indexes]


def no_adoption() -> None:
    """A job that was delivered again is run again, and its second outcome is told though the first one stands."""
    store = _of("job_server.store").OutcomeStore
    record = store.record

    async def recorded(_self: object, _job_ids: Sequence[str]) -> dict[str, Any]:
        return {}

    async def record_and_ignore(self: Any, outcomes: Sequence[Any]) -> dict[str, Any]:
        await record(self, outcomes)
        return {}

    store.recorded = recorded
    store.record = record_and_ignore


def no_rescue() -> None:
    """Nothing looks for jobs that were not published, or whose news was lost."""

    async def sweep(_self: object) -> int:
        return 0

    _of("api_server.service").Service.sweep = sweep


def no_taking_over() -> None:
    """Nobody looks after the jobs of an api-server that has died."""

    async def abandoned(_self: object, _since: datetime) -> list[Any]:
        return []

    _of("api_server.store").JobStore.abandoned = abandoned


def no_conditional_update() -> None:
    """The latest outcome wins, whatever the job's status."""
    store = _of("api_server.store").JobStore
    update = store._update  # noqa: SLF001 - a saboteur does not ask

    async def update_anyway(self: Any, *statements: dict[str, Any], **named: str) -> dict[str, Any]:
        for statement in statements:
            # Outcomes are applied by a pipeline of one stage.
            stage = statement["u"][0] if isinstance(statement["u"], list) else {}
            if "ended_at" in stage.get("$set", {}):
                stage["$set"] = {field: _always(change) for field, change in stage["$set"].items()}
        answer: dict[str, Any] = await update(self, *statements, **named)
        return answer

    store._update = update_anyway  # noqa: SLF001 - a saboteur does not ask


def acknowledgement_before_publish() -> None:
    """A job's message is acknowledged as soon as its work has ended."""
    service = _of("job_server.service").Service
    record_once = service._record_once  # noqa: SLF001 - likewise

    async def acknowledge_first(self: Any, batch: Sequence[Any]) -> None:
        await self._broker.ack([delivery for held in batch for delivery in held.deliveries])
        await record_once(self, batch)

    service._record_once = acknowledge_first  # noqa: SLF001 - likewise


def no_journal_in_the_api_server() -> None:
    """A job is called durable when it is in the database's memory."""
    _forget_the_journal(_of("api_server.store").JobStore)


def no_journal_in_the_job_server() -> None:
    """An outcome is called durable when it is in the database's memory."""
    _forget_the_journal(_of("job_server.store").OutcomeStore)


def _forget_the_journal(store: Any) -> None:
    init = store.__init__

    def init_carelessly(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self._durable = {"w": 1}

    store.__init__ = init_carelessly


def _always(change: Any) -> Any:
    """Give the value a conditional expression has when its condition holds."""
    return change["$cond"][1] if isinstance(change, dict) and "$cond" in change else change


GUARDS: Final[dict[str, tuple[str, Callable[[], None]]]] = {
    "no-unique-index": ("api_server", no_unique_index),
    "no-rescue": ("api_server", no_rescue),
    "no-taking-over": ("api_server", no_taking_over),
    "no-conditional-update": ("api_server", no_conditional_update),
    "no-journal-for-jobs": ("api_server", no_journal_in_the_api_server),
    "no-adoption": ("job_server", no_adoption),
    "acknowledgement-before-publish": ("job_server", acknowledgement_before_publish),
    "no-journal-for-outcomes": ("job_server", no_journal_in_the_job_server),
}
"""Each guard, the service that has it, and how it is removed."""


def main() -> None:
    """Remove the guard named by the only argument and become the service that has it."""
    (guard,) = sys.argv[1:]
    module, remove = GUARDS[guard]
    remove()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
