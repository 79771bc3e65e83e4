"""What is delivered, and what is known of it before its work may start."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, Protocol

from hasty.jobs import Ending, Turn
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import MalformedMessage, decode_turn, dispatch_id
from hasty.server.messaging.topology import FIRST_DELIVERY_S
from hasty.values import quick_dataclass
from job_server.domain import root_task

FIRST_DELIVERY_NS: Final = int(FIRST_DELIVERY_S * 1e9)


class Store(Protocol):
    """What is known of earlier runs; see `job_server.store.EndingStore`."""

    async def recorded(self, turn_ids: Sequence[str]) -> dict[str, Ending]: ...
    async def count_runs(self, turn_ids: Sequence[str]) -> dict[str, int]: ...


@quick_dataclass(frozen=True, slots=True)
class Arrival:
    """A turn that was delivered: `recorded` is its ending, if it has one; `runs_before` may have started it before.

    `outdated` says that this took so long that another process may have processed the turn meanwhile.
    """

    delivery: Delivery
    turn: Turn
    recorded: Ending | None
    runs_before: int
    outdated: bool = False


class Intake:
    """Reads deliveries; what cannot be read becomes a dead letter.

    With `root_kind`, turns of the root kind are a handler's. `at_most_once` says of which kinds a turn must not be
    started twice. `now_ns` gives the host's time in nanoseconds since 1970, and `broker_lost_ns` when the connection to
    the broker was last lost.
    """

    def __init__(
        self,
        store: Store,
        dead_letters: DeadLetters,
        *,
        root_kind: str | None,
        at_most_once: Callable[[str], bool],
        broker_lost_ns: Callable[[], int],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._root_kind = root_kind
        self._at_most_once = at_most_once
        self._broker_lost_ns = broker_lost_ns
        self._now_ns = now_ns

    async def read(self, deliveries: Sequence[Delivery], is_held: Callable[[str], bool]) -> list[Arrival]:
        """Read deliveries; `is_held` says of a turn id whether this process works on it.

        Raises:
            StoreUnavailable: when the database fails; nothing has been started then.
        """
        valid: list[tuple[Delivery, Turn]] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                valid.append((delivery, self._turn(delivery)))
            except MalformedMessage as error:
                malformed.append((delivery, str(error)))
        await self._dead_letters.put(malformed, "malformed")
        # Only an ending that may exist is looked for.
        now_ns, lost_ns = self._now_ns(), self._broker_lost_ns()
        repeated = {turn.turn_id for delivery, turn in valid if not _is_first_delivery(delivery, turn, now_ns, lost_ns)}
        recorded = await self._store.recorded(list(repeated)) if repeated else {}
        runs = await self._runs_before([turn for _, turn in valid], repeated, recorded, is_held)
        now_ns, lost_ns = self._now_ns(), self._broker_lost_ns()
        return [
            Arrival(
                *(delivery, turn, recorded.get(turn_id := turn.turn_id), runs.get(turn_id, 0)),
                # What was counted cannot be outdated: others see that it was.
                outdated=not _is_recent(delivery, now_ns, lost_ns) and turn_id not in repeated and turn_id not in runs,
            )
            for delivery, turn in valid
        ]

    def _turn(self, delivery: Delivery) -> Turn:
        turn = decode_turn(delivery.subject, delivery.data)
        if self._root_kind is not None and turn.task is None:
            return replace(turn, task=root_task(self._root_kind, turn.object_id))
        return turn

    async def _runs_before(
        self,
        turns: Sequence[Turn],
        repeated: Collection[str],
        recorded: Collection[str],
        is_held: Callable[[str], bool],
    ) -> dict[str, int]:
        """Return how often the turns of handlers may have been started before.

        The first run of a turn is counted only where it must be known before it: it costs a write.
        """
        of_handlers = {turn.turn_id: turn.task.kind for turn in turns if turn.task is not None}
        once = {turn_id for turn_id, kind in of_handlers.items() if self._at_most_once(kind)}
        again = of_handlers.keys() & set(repeated)
        counted = [turn_id for turn_id in once | again if turn_id not in recorded and not is_held(turn_id)]
        if not counted:
            return {}
        before = await self._store.count_runs(counted)
        # Of the others, the first run was not counted.
        return {turn_id: count + (turn_id not in once) for turn_id, count in before.items()}


def _is_first_delivery(delivery: Delivery, turn: Turn, now_ns: int, lost_ns: int) -> bool:
    """Whether no process can have received this turn before: its first dispatch, delivered first, and just now."""
    return (
        not turn.again
        and delivery.attempt == 1
        and delivery.message_id == dispatch_id(turn.turn_id, 1)
        and _is_recent(delivery, now_ns, lost_ns)
    )


def _is_recent(delivery: Delivery, now_ns: int, lost_ns: int) -> bool:
    """Whether the broker knows what it has done with a message that it stored just now.

    One that is killed may forget what it has delivered, and every connection to it is lost then. Where the clocks of
    broker and host differ, this is wrong at times, and costs a look-up or a second run of the work, whose ending is not
    recorded.
    """
    return abs(now_ns - delivery.stored_ns) < FIRST_DELIVERY_NS and delivery.stored_ns > lost_ns
