"""What the job-server does: start a turn's work, and have its one ending recorded."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, Protocol

from hasty.jobs import Ending, Report, Status, Turn
from hasty.server.messaging.delivery import Delivery
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Batcher
from hasty.server.runtime.crash_points import CrashPoint, crash_point
from hasty.server.runtime.logs import get_logger
from job_server import intake, recording
from job_server.domain import cancelled, hand_back_delay_s, lost
from job_server.held import Heartbeat, Held, HeldTurns
from job_server.intake import Arrival, Intake
from job_server.metrics import HANDED_BACK, STARTED
from job_server.recent import Recent
from job_server.recording import RETRY_S, Publisher, Recorder
from job_server.work import Stop, Work

log = get_logger(__name__)

ALONE_FROM: Final = 4
"""From this delivery on, a turn without an ending runs in a child of its own."""

TASKS_HELD_MAX: Final = 20_000
"""Most turns of handlers that are held at once, those whose ending is being recorded included."""


class Store(recording.Store, intake.Store, Protocol):
    """What the service needs of its database; see `job_server.store.EndingStore`."""


class Acks(recording.Acks, Protocol):
    """What answers the broker; see `hasty.server.messaging.acks.Acks`."""

    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...
    async def in_progress(self, deliveries: Sequence[Delivery]) -> None: ...


class Handlers(Protocol):
    """What runs the turns of handlers; see `job_server.handlers.HandlerWork`."""

    @property
    def worker(self) -> str: ...
    @property
    def root_kind(self) -> str | None: ...
    def free_slots(self, kind: str) -> int: ...
    def is_at_most_once(self, kind: str) -> bool: ...
    def start(
        self,
        turn: Turn,
        run: int,
        *,
        alone: bool,
        ended: Callable[[Status, float, Report], None],
        refused: Callable[[], None],
    ) -> Stop: ...
    def cancel(self, turn_id: str) -> None: ...


class Service:
    """Works on turns: each is held until its ending is recorded, published and acknowledged.

    Turns of the root kind are done by `work`, unless `handlers` has a handler for them; those with a task are done by
    `handlers`. `now_ns` gives the host's time in nanoseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        acks: Acks,
        intake: Intake,
        work: Work,
        *,
        concurrency: int,
        handlers: Handlers,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._acks = acks
        self._work = work
        self._concurrency = concurrency
        self._handlers = handlers
        self._now_ns = now_ns
        self.held = HeldTurns()
        self.heartbeat = Heartbeat(self.held, acks)
        self._intake = intake
        self._cancelled = Recent()
        self._closing = False
        # Bound once: below its level, a call then costs next to nothing.
        self._log = log.bind()
        most = concurrency + TASKS_HELD_MAX
        self._recorder = Recorder(store, publisher, acks, most=most, release=self.held.release)
        self._hand_backs: Batcher[Held, None] = Batcher(self._hand_back_refused, name="hand-backs", max_batch=500)

    @property
    def free_slots(self) -> int:
        """How many more turns of the root kind may be taken now."""
        if self._handlers.root_kind is not None:
            return self.free_slots_of(self._handlers.root_kind)
        return 0 if self._closing else max(self._concurrency - len(self.held) + self.held.tasks, 0)

    def free_slots_of(self, kind: str) -> int:
        """How many more turns of a kind may be taken now."""
        return 0 if self._closing else max(min(self._handlers.free_slots(kind), TASKS_HELD_MAX - self.held.tasks), 0)

    # -- start ----------------------------------------------------------------------------------------------------

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Start the work of turns that were delivered; where an ending is recorded, it is published again instead.

        While the database is unavailable, the messages are handed back for later; once the process is stopping, at
        once.
        """
        crash_point(CrashPoint.JOB_AFTER_FETCH)
        if self._closing:
            await self._acks.nak(deliveries)
            return
        try:
            with self.held.noting_released() as released:
                arrivals = await self._intake.read(deliveries, lambda turn_id: self.held.get(turn_id) is not None)
        except StoreUnavailable as error:
            log.warning("jobs_not_started", count=len(deliveries), reason=str(error))
            await self._acks.nak(deliveries, delay_s=1)
            await asyncio.sleep(RETRY_S)
            return
        # What is known of a turn that ended here meanwhile is out of date: its next delivery is looked up.
        again = [one for one in arrivals if self._is_unknown(one, released)]
        STARTED.inc(sum(self._start(arrival) for arrival in arrivals if arrival not in again))
        if again:
            await self._acks.nak([one.delivery for one in again])

    def _is_unknown(self, arrival: Arrival, released: Collection[str]) -> bool:
        """Whether a turn that is neither held nor known to have an ending may have been processed after the look-up."""
        turn_id = arrival.turn.turn_id
        if arrival.recorded is not None or self.held.get(turn_id) is not None:
            return False
        return arrival.outdated or turn_id in released

    def _start(self, arrival: Arrival) -> bool:
        """Start a turn's work, unless it is held here, has an ending, or must not run; whether it was started."""
        turn, delivery = arrival.turn, arrival.delivery
        if held := self.held.get(turn.turn_id):
            held.deliveries = (*held.deliveries, delivery)
            return False
        held = self.held.hold(turn, delivery)
        ending = arrival.recorded or self._prevented(arrival)
        if ending is not None:
            held.ending = ending
            self._recorder.post(held)
            return False
        held.started = True
        held.run = arrival.runs_before + 1
        self._log.debug("job_started", job_id=turn.job_id, object_id=turn.object_id, attempt=delivery.attempt)
        if turn.task is None:
            held.stop = self._work(turn, partial(self._ended, held))
        else:
            held.stop = self._handlers.start(
                turn,
                held.run,
                alone=delivery.attempt >= ALONE_FROM,
                ended=partial(self._ended, held),
                refused=partial(self._refused, held),
            )
        crash_point(CrashPoint.JOB_MID_WORK)
        return True

    def _prevented(self, arrival: Arrival) -> Ending | None:
        """Return how a turn ends that must not be started."""
        turn = arrival.turn
        if turn.job_id in self._cancelled:
            return cancelled(turn, self._handlers.worker, self._now_ns() / 1e9)
        if turn.task is not None and arrival.runs_before > 0 and self._handlers.is_at_most_once(turn.task.kind):
            return lost(turn, self._handlers.worker, self._now_ns() / 1e9, arrival.runs_before)
        return None

    # -- end ------------------------------------------------------------------------------------------------------

    def _ended(self, held: Held, status: Status, took_s: float, report: Report | None = None) -> None:
        held.stop = None
        held.ending = Ending(held.turn, status, took_s, held.deliveries[-1].attempt, report)
        self._log.debug(
            "job_ended",
            job_id=held.turn.job_id,
            object_id=held.turn.object_id,
            attempt=held.ending.attempt,
            status=status.value,
            duration_s=took_s,
        )
        self._recorder.post(held)

    def _refused(self, held: Held) -> None:
        """Hand a turn back whose input this version of the handler does not understand: another one may."""
        held.stop = None
        self._hand_backs.post(held)

    async def _hand_back_refused(self, batch: Sequence[Held]) -> list[None]:
        for held in batch:
            delay_s = hand_back_delay_s(held.deliveries[-1].attempt, random.random())  # noqa: S311 - no secret
            await self._acks.nak(held.deliveries, delay_s=delay_s)
            self.held.release(held)
        return [None] * len(batch)

    # -- cancel ---------------------------------------------------------------------------------------------------

    def cancel(self, job_ids: Collection[str]) -> None:
        """Stop the work of these jobs that is done here, and start none of them that comes later."""
        self._cancelled.add(job_ids)
        wanted = set(job_ids)
        for held in self.held:
            if held.turn.job_id not in wanted or held.stop is None:
                continue
            if held.turn.task is not None:
                # Its ending is recorded when it is really over.
                self._handlers.cancel(held.turn.turn_id)
            else:
                held.stop()
                self._ended(held, Status.CANCELLED, round(asyncio.get_running_loop().time() - held.began, 3))

    def holds(self, job_id: str) -> bool:
        """Whether a turn of this job is held here."""
        return self.held.of_job(job_id)

    def end_cancelled(self, turn: Turn, delivery: Delivery) -> None:
        """Have a turn that nobody works on end as cancelled; `delivery` is that of the request to cancel it."""
        # Its message may come for the first time after this, and then no ending is looked for.
        self._cancelled.add([turn.job_id])
        held = self.held.get(turn.turn_id)
        if held is None:
            held = self.held.hold(turn, delivery)
            held.ending = cancelled(turn, self._handlers.worker, self._now_ns() / 1e9)
            self._recorder.post(held)
        else:
            held.deliveries = (*held.deliveries, delivery)

    # -- stop -----------------------------------------------------------------------------------------------------

    async def finish_or(self, grace_s: float) -> None:
        """Take nothing more, and give the held turns `grace_s` seconds to end."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.held.until_none()

    async def hand_back(self) -> None:
        """Stop the work that is left and hand it back, so that another worker starts it at once."""
        left = list(self.held)
        for held in left:
            if held.stop is not None:
                held.stop()
        await self._recorder.close()
        await self._hand_backs.close()
        await self._acks.nak([delivery for held in left for delivery in held.deliveries])
        if left:
            log.info("jobs_handed_back", count=len(left))
        HANDED_BACK.inc(len(left))
        self.held.clear()
