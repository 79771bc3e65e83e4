"""The lifecycle of a job-server: what runs side by side, and in which order it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from hasty.server.messaging.connection import Connection, Hear
from hasty.server.messaging.consumer import Handle, PullConsumer, consume
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.listening import listen
from hasty.server.messaging.watchdog import watch
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import Stopping, end
from job_server.kinds import KindConsumers
from job_server.service import Service
from job_server.settings import Settings

log = get_logger(__name__)


async def run(  # noqa: PLR0913 - everything that runs, by keyword; long: one parameter a line, then start and end
    settings: Settings,
    *,
    connection: Connection,
    consumers: Mapping[PullConsumer, Handle],
    kinds: KindConsumers,
    listeners: Mapping[str, Hear],
    loops: Mapping[str, Coroutine[Any, Any, None]],
    service: Service,
    dead_letters: DeadLetters,
    stopping: Stopping,
) -> None:
    """Run until asked to stop, then stop in order.

    Each consumer comes with what it is consumed by, `listeners` are called with what is told on their subjects, and
    `loops` are what else runs for ever, by name.

    Raises:
        ExceptionGroup: with `FatalExit` in it when the connection cannot recover.
    """
    async with asyncio.TaskGroup() as tasks:
        taking = [
            tasks.create_task(consume(consumer, handle, dead_letters.put_defect), name=f"take {consumer.durable.name}")
            for consumer, handle in consumers.items()
        ]
        looping = [
            tasks.create_task(service.heartbeat.run(settings.ack_wait_s), name="heartbeat"),
            tasks.create_task(watch(connection, settings.silence_s), name="watchdog"),
        ]
        for subject, hear in listeners.items():
            looping.append(tasks.create_task(listen(connection, subject, hear), name=f"listen to {subject}"))
        looping += [tasks.create_task(work, name=name) for name, work in loops.items()]
        log.info("started", concurrency=settings.job_concurrency)
        try:
            await stopping.wait()
            log.info("stopping", reason=stopping.reason, held=len(service.held))
            for consumer in consumers:
                consumer.stop()
            kinds.stop()
            await service.finish_or(settings.shutdown_grace_s)
            await asyncio.wait(taking, timeout=settings.shutdown_grace_s)
            await kinds.until_stopped(settings.shutdown_grace_s)
            await service.hand_back()
        finally:
            await end([*taking, *looping])
    log.info("stopped")
