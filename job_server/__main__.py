"""Start a job-server: read its settings, open its resources, run it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from functools import partial
from typing import Final

from hasty.jobs import SLEEP
from hasty.server.messaging.acks import Acks
from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.messaging.consumer import PullConsumer, consume
from hasty.server.messaging.dead_letters import DeadLetters
from hasty.server.messaging.publisher import Publisher
from hasty.server.messaging.topology import JOB_CANCEL, JOB_CREATED, work_durable
from hasty.server.mongo import Mongo
from hasty.server.runtime import command_line, crash_points, logs, output, process
from hasty.server.runtime.http import HttpServer
from hasty.server.runtime.probes import CHECK_TIMEOUT_S, Probes
from hasty.server.runtime.timers import TimerQueue
from job_server import lifecycle, metrics
from job_server.cancellations import CANCEL_SUBJECT, HOLDS_SUBJECT, Cancellations
from job_server.domain import choose_sleep_s
from job_server.execution import Executor
from job_server.forgetting import FORGET_SUBJECT, FORGOT_SUBJECT, Forgetting
from job_server.handlers import HandlerWork
from job_server.intake import Intake
from job_server.kinds import Announcer, KindConsumers
from job_server.pulses import PULSE_SUBJECT, send_pulses
from job_server.service import Service
from job_server.settings import Settings
from job_server.store import CALL_TIMEOUT_S, DATABASE, EndingStore
from job_server.work import sleeping

NAME: Final = "job-server"
PULL_MAX: Final = 512
CANCELLATIONS_AT_ONCE: Final = 256
PROBE_GRACE_S: Final = CHECK_TIMEOUT_S + 1
ANSWER_WITHIN_S: Final = 0.5
"""How long a job-server may take to say that it holds a job."""


async def serve(settings: Settings, stopping: process.Stopping) -> None:  # long: wiring, read from top to bottom
    """Run a job-server with these settings until asked to stop."""
    chance = random.Random()  # noqa: S311 - how long a job sleeps is no secret

    def choose_s() -> float:
        return choose_sleep_s(settings.job_sleep_min_s, settings.job_sleep_max_s, chance.randint, chance.uniform)

    async with contextlib.AsyncExitStack() as opened:
        try:
            mongo = await opened.enter_async_context(
                Mongo.opened(settings.job_mongo_url, name=DATABASE, indexes={}, timeout_s=CALL_TIMEOUT_S)
            )
        except ValueError as error:
            raise process.FatalExit(process.EXIT_FAILED, f"HASTY_JOB_MONGO_URL: {error}") from None
        connection = await opened.enter_async_context(Connection.opened(settings.nats_url, name=NAME))
        timers = TimerQueue()
        opened.callback(timers.close)
        executor = await opened.enter_async_context(Executor.running(settings.start(), watch=settings.work_watch))

        worker = logs.worker_name()
        store = EndingStore(mongo, worker)
        acks = Acks(connection)
        publisher = Publisher(connection)
        dead_letters = DeadLetters(store.dead_letter, acks)
        root_kind = None if settings.root_kind == SLEEP else settings.root_kind
        handler_work = HandlerWork(executor, worker=worker, root_kind=root_kind, chance=chance.random)
        intake = Intake(
            store,
            dead_letters,
            root_kind=root_kind,
            at_most_once=handler_work.is_at_most_once,
            broker_lost_ns=lambda: connection.lost_ns,
        )
        service = Service(
            store,
            publisher,
            acks,
            intake,
            sleeping(timers, choose_s, settings.job_timeout_s),
            concurrency=settings.job_concurrency,
            handlers=handler_work,
        )
        metrics.publish_held(lambda: len(service.held))
        connection.on_connected.append(service.heartbeat.soon)

        cancellations = Cancellations(
            service,
            acks,
            dead_letters,
            publish=partial(connection.publish_core, CANCEL_SUBJECT),
            is_held_elsewhere=partial(_is_held_elsewhere, connection),
        )
        forgetting = Forgetting(store, partial(connection.publish_core, FORGOT_SUBJECT))
        announcer = Announcer(publisher, lambda: executor.kinds)
        connection.on_connected.append(announcer.announce)

        def consumer_of(kind: str) -> PullConsumer:
            return PullConsumer(
                connection,
                work_durable(kind),
                free_slots=lambda buffered: min(service.free_slots_of(kind) - buffered, PULL_MAX),
            )

        created = PullConsumer(
            connection, JOB_CREATED, free_slots=lambda buffered: min(service.free_slots - buffered, PULL_MAX)
        )
        requests = PullConsumer(connection, JOB_CANCEL, free_slots=lambda _buffered: CANCELLATIONS_AT_ONCE)
        kinds = await opened.enter_async_context(
            KindConsumers(
                consumer_of, lambda consumer: consume(consumer, service.take, dead_letters.put_defect)
            ).running()
        )

        def on_slot_freed() -> None:
            created.wake()
            kinds.wake()

        def on_kinds() -> None:
            kinds.serve(executor.kinds)
            announcer.announce()
            on_slot_freed()

        service.held.on_freed = executor.on_slot_freed = on_slot_freed
        executor.on_kinds = on_kinds
        on_kinds()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, executor.reload)

        async def consuming() -> str | None:
            if service.free_slots == 0:
                return None if len(service.held) else "stopping"
            return None if created.consuming else "jobs are not being taken"

        async def handlers() -> str | None:
            return executor.problem

        probes = Probes(
            {
                "database": mongo.prove_writes,
                "broker": publisher.prove_stores,
                "consumer": consuming,
                "handlers": handlers,
            },
            # What else it serves, it goes on serving.
            optional=frozenset({"handlers"}),
        )
        await opened.enter_async_context(
            HttpServer.running(
                probes.asgi, host=settings.bind_host, port=settings.bind_port, drain_s=0, grace_s=PROBE_GRACE_S
            )
        )
        crash_points.on_command("close-client", connection.client.close)
        await lifecycle.run(
            settings,
            connection=connection,
            consumers={created: service.take, requests: cancellations.take},
            kinds=kinds,
            listeners={
                CANCEL_SUBJECT: cancellations.hear,
                FORGET_SUBJECT: forgetting.hear,
                HOLDS_SUBJECT: lambda data: b"held" if service.holds(data.decode("utf-8", "replace")) else None,
            },
            loops={
                "announcements": announcer.run(),
                "forgetting": forgetting.run(),
                "pulses": send_pulses(
                    partial(connection.publish_core, PULSE_SUBJECT),
                    service.held,
                    executor,
                    service.free_slots_of,
                    lambda: executor.free_places if executor.kinds else service.free_slots,
                    lambda: service.free_slots if root_kind is None else None,
                    worker=worker,
                    now_s=time.time,
                ),
            },
            service=service,
            dead_letters=dead_letters,
            stopping=stopping,
        )


async def _is_held_elsewhere(connection: Connection, job_id: str) -> bool:
    """Ask all job-servers whether one of them holds a job; this one does not answer for what it does not hold."""
    try:
        await connection.request(HOLDS_SUBJECT, job_id.encode(), timeout_s=ANSWER_WITHIN_S)
    except BrokerUnavailable:
        return False
    return True


def main() -> None:
    """Run the process; does not return."""
    output.discard_failed_writes()
    settings = command_line.read(Settings, NAME)
    logs.configure(NAME, settings.log_level, settings.log_format)
    process.run(lambda stopping: serve(settings, stopping), settings.silence_s, settings.faults_dir)


if __name__ == "__main__":
    main()
