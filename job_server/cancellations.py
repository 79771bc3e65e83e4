"""Cancellations: requests to cancel jobs, those that are held and those that nobody holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

from hasty.jobs import Turn
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.delivery import Delivery
from hasty.server.messaging.events import MalformedMessage, decode_turn
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

CANCEL_SUBJECT: Final = "hasty.cancel"
"""Where every job-server hears which jobs are to be cancelled: a JSON list of ids, on core NATS."""

HOLDS_SUBJECT: Final = "hasty.holds"
"""Where a job-server asks the others whether one of them holds a job: its id; only one that does answers."""

PAUSE_AFTER_FAILURE_S: Final = 0.5


class Holds(Protocol):
    """What is held here, see `job_server.service.Service`."""

    def cancel(self, job_ids: Collection[str]) -> None: ...
    def end_cancelled(self, turn: Turn, delivery: Delivery) -> None: ...
    def holds(self, job_id: str) -> bool: ...


class Acks(Protocol):
    """What answers the broker; see `hasty.server.messaging.acks.Acks`."""

    async def ack(self, deliveries: Sequence[Delivery]) -> bool: ...
    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None: ...


class Cancellations:
    """Takes requests to cancel jobs.

    All job-servers share a durable consumer of them, so any one of them gets a request. `publish` sends the ids to
    every job-server, `is_held_elsewhere` asks the others about one job.
    """

    def __init__(
        self,
        service: Holds,
        acks: Acks,
        dead_letters: DeadLetters,
        *,
        publish: Callable[[bytes], Awaitable[None]],
        is_held_elsewhere: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._service = service
        self._acks = acks
        self._dead_letters = dead_letters
        self._publish = publish
        self._is_held_elsewhere = is_held_elsewhere

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Cancel jobs, whoever holds them; those that nobody holds end here.

        The request is published again until the job has ended, so one about a job that is held needs no more.
        """
        valid: list[tuple[Delivery, Turn]] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                valid.append((delivery, decode_turn(delivery.subject, delivery.data)))
            except MalformedMessage as error:
                malformed.append((delivery, str(error)))
        try:
            await self._dead_letters.put(malformed, "malformed")
        except StoreUnavailable as error:
            log.warning("cancellations_wait", count=len(deliveries), reason=str(error))
            await self._acks.nak(deliveries, delay_s=1)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        job_ids = [turn.job_id for _, turn in valid]
        # All hear of it before anybody asks: who does not hold a job then will not start it any more.
        self._service.cancel(job_ids)
        await self._publish(json.dumps(job_ids).encode())
        held = await asyncio.gather(*(self._is_held(job_id) for job_id in job_ids))
        for (delivery, turn), is_held in zip(valid, held, strict=True):
            if not is_held:
                self._service.end_cancelled(turn, delivery)
        await self._acks.ack([delivery for (delivery, _), is_held in zip(valid, held, strict=True) if is_held])

    async def _is_held(self, job_id: str) -> bool:
        return self._service.holds(job_id) or await self._is_held_elsewhere(job_id)

    def hear(self, data: bytes) -> None:
        """Cancel what is held here of the jobs that a job-server or an api-server told to all; never raises."""
        job_ids = parse_ids(data)
        if job_ids:
            self._service.cancel(job_ids)


def parse_ids(data: bytes) -> list[str]:
    """Read a JSON list of job ids; nothing, when it is not one."""
    try:
        ids = json.loads(data)
    except ValueError:
        return []
    return [job_id for job_id in ids if isinstance(job_id, str)] if isinstance(ids, list) else []
