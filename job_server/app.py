"""The life of a job-server: what runs side by side, and in which order it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from runtime.logs import get_logger
from runtime.process import end

if TYPE_CHECKING:
    from job_server.service import Service
    from job_server.settings import Settings
    from messaging.jetstream import JetStream, PullConsumer
    from runtime.process import Stopping

log = get_logger(__name__)

PULL_AT_ONCE: Final = 512


def room(service: Service, consumer: PullConsumer) -> int:
    """How many messages may be asked for: no more than there are free places, those on their way included."""
    return min(service.room - consumer.buffered, PULL_AT_ONCE)


async def run(
    settings: Settings, *, broker: JetStream, consumer: PullConsumer, service: Service, stopping: Stopping
) -> None:
    """Run until asked to stop, then end in order.

    Raises:
        ExceptionGroup: with `Leave` in it when the connection is beyond healing.
    """
    broker.on_connected.append(service.beat_now)
    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(consumer.run(service.take, service.give_up), name="take jobs")
        helpers = [
            tasks.create_task(service.run_heart(settings.ack_wait_s), name="heart"),
            tasks.create_task(broker.watch(settings.silence_s), name="watchdog"),
        ]
        log.info("started", concurrency=settings.job_concurrency)
        try:
            await stopping.wait()
            log.info("stopping", reason=stopping.reason, held=service.held)
            consumer.stop()
            await service.finish_or(settings.shutdown_grace_s)
            await asyncio.wait([taking], timeout=settings.shutdown_grace_s)
            await service.hand_back()
        finally:
            await end([taking, *helpers])
    log.info("stopped")
