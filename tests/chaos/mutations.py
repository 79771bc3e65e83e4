"""Starts a service without one of its safeguards: `python -m tests.chaos.mutations <safeguard>`.

Each safeguard is removed by replacing one thing; what the service does otherwise is its own code. The tests of the
mutations see the checker object to a run with such a service, so a safeguard that is lost in the code is found as well.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final


def _of(name: str) -> Any:
    """Give a module of the one service that this process is."""
    return importlib.import_module(name)


def no_unique_index() -> None:
    """Two api-servers that saw the same latest run both insert the next one."""
    indexes = _of("api_server.store").INDEXES["jobs"]
    indexes[:] = [{key: value for key, value in index.items() if key != "unique"} for index in indexes]


def recorded_outcome_ignored() -> None:
    """A job that was delivered again is run again, and its second outcome is told though the first one stands."""
    store = _of("job_server.store").EndingStore
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

    _of("api_server.outbox").Outbox.sweep = sweep


def no_taking_over() -> None:
    """Nobody looks after the jobs of an api-server that has died."""

    async def abandoned(_self: object, _since: datetime) -> list[Any]:
        return []

    _of("api_server.store.leases").LeaseStore.abandoned = abandoned


def no_conditional_update() -> None:
    """The latest outcome wins, whatever the job's status."""
    mongo = _of("hasty.server.mongo").Mongo
    update = mongo.update

    async def update_anyway(self: Any, collection: str, *statements: dict[str, Any]) -> dict[str, Any]:
        for statement in statements:
            # Outcomes are applied by a pipeline of one stage.
            stage = statement["u"][0] if isinstance(statement["u"], list) else {}
            if "ended_at" in stage.get("$set", {}):
                stage["$set"] = {field: _always(change) for field, change in stage["$set"].items()}
        answer: dict[str, Any] = await update(self, collection, *statements)
        return answer

    mongo.update = update_anyway


def acknowledgement_before_publish() -> None:
    """A job's message is acknowledged as soon as its work has ended."""
    recorder = _of("job_server.recording").Recorder
    record_once = recorder._record_once  # noqa: SLF001 - likewise

    async def acknowledge_first(self: Any, batch: Sequence[Any]) -> None:
        await self._acks.ack([delivery for held in batch for delivery in held.deliveries])
        await record_once(self, batch)

    recorder._record_once = acknowledge_first  # noqa: SLF001 - likewise


def no_journal_in_the_api_server() -> None:
    """A job is called durable when it is in the database's memory."""
    _forget_the_journal()


def no_journal_in_the_job_server() -> None:
    """An outcome is called durable when it is in the database's memory."""
    _forget_the_journal()


def _forget_the_journal() -> None:
    mongo = _of("hasty.server.mongo").Mongo
    init = mongo.__init__

    def init_carelessly(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self._durable = {"w": 1}

    mongo.__init__ = init_carelessly


def no_turn_check() -> None:
    """An ending is applied to whatever turn its job is in."""
    turns = _of("api_server.store.turns")
    holds = turns._holds  # noqa: SLF001 - likewise

    def holds_in_any_turn(ids: Sequence[str], endings: Sequence[Any]) -> dict[str, Any]:
        may_move, _is_its_turn = holds(ids, endings)["$and"]
        return {"$and": [may_move]}

    turns._holds = holds_in_any_turn  # noqa: SLF001 - likewise


def no_memory_of_cancellations() -> None:
    """A job that was cancelled while it was queued starts when it is delivered.

    A delivery is believed to be a first one for a minute instead of two seconds: a job that waits for longer is looked
    up, and what is tested would hang on how busy the machine is.
    """

    def contains(_self: object, _job_id: object) -> bool:
        return False

    _of("job_server.intake").FIRST_DELIVERY_NS = 60_000_000_000
    _of("job_server.recent").Recent.__contains__ = contains


def no_heartbeat() -> None:
    """Nobody tells the broker that a turn is still being worked on."""

    async def send(_self: object) -> None:
        return

    _of("job_server.held").Heartbeat.send = send


def no_second_run() -> None:
    """Whoever stood beside a handler that ended its child fails with it."""
    executor, losses = _of("job_server.execution.executor"), _of("job_server.execution.losses")

    def fail(*_arguments: object, **_named: object) -> Any:
        return losses.Next.FAIL

    executor.after_loss = fail


def _always(change: Any) -> Any:
    """Give the value a conditional expression has when its condition holds."""
    return change["$cond"][1] if isinstance(change, dict) and "$cond" in change else change


MUTATIONS: Final[dict[str, tuple[str, Callable[[], None]]]] = {
    "no-unique-index": ("api_server", no_unique_index),
    "no-rescue": ("api_server", no_rescue),
    "no-taking-over": ("api_server", no_taking_over),
    "no-conditional-update": ("api_server", no_conditional_update),
    "no-journal-for-jobs": ("api_server", no_journal_in_the_api_server),
    "recorded-outcome-ignored": ("job_server", recorded_outcome_ignored),
    "acknowledgement-before-publish": ("job_server", acknowledgement_before_publish),
    "no-journal-for-outcomes": ("job_server", no_journal_in_the_job_server),
    "no-turn-check": ("api_server", no_turn_check),
    "no-memory-of-cancellations": ("job_server", no_memory_of_cancellations),
    "no-heartbeat": ("job_server", no_heartbeat),
    "no-second-run": ("job_server", no_second_run),
}
"""Each safeguard, the service that has it, and how it is removed."""


def main() -> None:
    """Remove the safeguard named by the only argument and become the service that has it."""
    (safeguard,) = sys.argv[1:]
    module, remove = MUTATIONS[safeguard]
    remove()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
