"""The life of an api-server: what runs side by side, and in which order it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from api_server.errors import StoreUnavailable
from messaging.events import Subject
from messaging.jetstream import BrokerUnavailable, TopologyConflict
from messaging.topology import JOB_CANCELLED, JOB_FINISHED
from runtime.logs import get_logger
from runtime.process import EXIT_FAILED, Leave, end

if TYPE_CHECKING:
    from api_server.clock import DatabaseClock
    from api_server.service import Service
    from api_server.settings import Settings
    from api_server.store import JobStore
    from messaging.jetstream import JetStream, PullConsumer
    from runtime.http import HttpServer
    from runtime.process import Stopping

log = get_logger(__name__)

LEARN_TIME_EVERY_S: Final = 5.0
ASK_AGAIN_S: Final = 0.25
ENSURE_EVERY_S: Final = 2.0
OUTCOMES_AT_ONCE: Final = 512
RUSHED_READING_S: Final = 0.25


async def read_time(store: JobStore, clock: DatabaseClock) -> None:
    """Ask the database for its time, and believe it unless the answer took long.

    Raises:
        StoreUnavailable: when the database does not answer.
    """
    asked = time.monotonic()
    at = await store.server_time()
    answered = time.monotonic()
    if answered - asked < RUSHED_READING_S or not clock.known:
        clock.learn(at, asked, answered)


class App:
    """An api-server's parts, once they are open."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: JobStore,
        broker: JetStream,
        set_up: JetStream,
        clock: DatabaseClock,
        service: Service,
        http: HttpServer,
    ) -> None:
        self._settings = settings
        self._store = store
        self._broker = broker
        self._set_up = set_up
        self._clock = clock
        self._service = service
        self._http = http
        self._consumers = {
            Subject.FINISHED: broker.consumer(JOB_FINISHED, room=lambda: OUTCOMES_AT_ONCE),
            Subject.CANCELLED: broker.consumer(JOB_CANCELLED, room=lambda: OUTCOMES_AT_ONCE),
        }

    @property
    def consuming(self) -> bool:
        """Whether outcomes are being taken from the broker."""
        return all(consumer.consuming for consumer in self._consumers.values())

    async def run(self, stopping: Stopping) -> None:
        """Run until asked to stop, then end in order.

        Raises:
            ExceptionGroup: with `Leave` in it when a part cannot go on.
        """
        self._broker.on_connected.append(self._service.broker_is_back)
        async with asyncio.TaskGroup() as tasks:
            reporters = [
                tasks.create_task(self._report(subject, consumer), name=f"report {subject.value}")
                for subject, consumer in self._consumers.items()
            ]
            helpers = [
                tasks.create_task(self._keep_time(), name="clock"),
                tasks.create_task(self._keep_topology(), name="topology"),
                tasks.create_task(self._service.run_dispatcher(), name="dispatcher"),
                tasks.create_task(self._service.run_keeper(), name="keeper"),
                tasks.create_task(self._broker.watch(self._settings.silence_s), name="watchdog"),
            ]
            log.info("started", port=self._http.port)
            try:
                await stopping.wait()
                log.info("stopping", reason=stopping.reason)
                with contextlib.suppress(StoreUnavailable, TimeoutError):
                    async with asyncio.timeout(self._settings.shutdown_grace_s):
                        await self._end_in_order(reporters)
            finally:
                await end([*reporters, *helpers])
        log.info("stopped")

    async def _end_in_order(self, reporters: list[asyncio.Task[None]]) -> None:
        await self._http.stop()
        for consumer in self._consumers.values():
            consumer.stop()
        await asyncio.wait(reporters)
        await self._service.finish_dispatching()

    async def _report(self, subject: Subject, consumer: PullConsumer) -> None:
        await consumer.run(partial(self._service.report, subject), self._service.give_up)

    async def _keep_time(self) -> None:
        """Learn the database's time, soon at first and then every few seconds."""
        while True:
            try:
                await read_time(self._store, self._clock)
                await asyncio.sleep(LEARN_TIME_EVERY_S)
            except StoreUnavailable as error:
                log.warning("waiting_for_database", reason=error.reason)
                await asyncio.sleep(ASK_AGAIN_S)

    async def _keep_topology(self) -> None:
        """Own the stream and its consumers: make them, and make them again when they are gone."""
        known: str | None = None
        lost = False
        while True:
            try:
                await self._set_up.until_connected()
                state = await self._set_up.ensure(self._settings.ack_wait_s)
                lost = lost or state.is_new or known not in {None, state.identity}
                known = state.identity
                if lost:
                    await self._service.broker_lost_everything()
                    lost = False
            except TopologyConflict as error:
                raise Leave(EXIT_FAILED, str(error)) from error
            except BrokerUnavailable as error:
                log.warning("topology_not_checked", reason=str(error))
            except StoreUnavailable as error:
                log.warning("lost_jobs_not_marked", reason=error.reason)
            await asyncio.sleep(ENSURE_EVERY_S)
