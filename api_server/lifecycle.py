"""The lifecycle of an api-server: what runs side by side, and in which order it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from api_server.outbox import Outbox
from api_server.watch import Watch
from hasty.server.messaging.consumer import PullConsumer
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.http import HttpServer
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import Stopping, end

log = get_logger(__name__)


async def run(
    consumers: Sequence[tuple[PullConsumer, Coroutine[Any, Any, None]]],
    loops: Mapping[str, Coroutine[Any, Any, None]],
    *,
    http: HttpServer,
    watch: Watch,
    outbox: Outbox,
    stopping: Stopping,
    grace_s: float,
) -> None:
    """Run until asked to stop, then stop in order within `grace_s` seconds.

    Each consumer comes with what consumes it; `loops` are what else runs for ever, by name.

    Raises:
        ExceptionGroup: with `FatalExit` in it when a part cannot go on.
    """
    async with asyncio.TaskGroup() as tasks:
        consuming = [tasks.create_task(work, name=f"consume {consumer.durable.name}") for consumer, work in consumers]
        looping = [tasks.create_task(work, name=name) for name, work in loops.items()]
        log.info("started", port=http.port)
        try:
            await stopping.wait()
            log.info("stopping", reason=stopping.reason)
            try:
                async with asyncio.timeout(grace_s):
                    watch.close()
                    await http.stop()
                    for consumer, _ in consumers:
                        consumer.stop()
                    await asyncio.wait(consuming)
                    await outbox.finish()
            except TimeoutError:
                log.warning("shutdown_grace_exceeded", grace_s=grace_s)
            except StoreUnavailable as error:
                log.warning("outbox_not_finished", reason=str(error))
        finally:
            await end([*consuming, *looping])
    log.info("stopped")
