"""Start a job-server: read its settings, open its resources, run it."""

from __future__ import annotations

import contextlib
import random
from typing import Final

from job_server import app
from job_server.agenda import Agenda
from job_server.domain import choose_sleep_s
from job_server.service import Service
from job_server.settings import Settings
from job_server.store import OutcomeStore
from job_server.work import sleeping
from messaging.jetstream import JetStream
from messaging.topology import JOB_CREATED
from runtime import crash_points, logs, process
from runtime.http import HttpServer
from runtime.probes import CHECK_TIMEOUT_S, Probes
from runtime.settings import load

NAME: Final = "job-server"
PROBE_GRACE_S: Final = CHECK_TIMEOUT_S + 1


async def serve(settings: Settings, stopping: process.Stopping) -> None:
    """Run a job-server with these settings until asked to stop."""
    chance = random.Random()  # noqa: S311 - how long a job sleeps is no secret

    def choose_s() -> float:
        return choose_sleep_s(settings.job_sleep_min_s, settings.job_sleep_max_s, chance.randint, chance.uniform)

    async with contextlib.AsyncExitStack() as opened:
        try:
            store = await opened.enter_async_context(
                OutcomeStore.opened(settings.job_mongo_url, worker=logs.worker_name())
            )
        except ValueError as error:
            raise process.Leave(process.EXIT_FAILED, f"HASTY_JOB_MONGO_URL: {error}") from None
        broker = await opened.enter_async_context(JetStream.opened(settings.nats_url, name=NAME))
        agenda = Agenda()
        opened.callback(agenda.close)
        service = Service(
            store,
            broker,
            sleeping(agenda, choose_s, settings.job_timeout_s),
            concurrency=settings.job_concurrency,
            # Either needs the other: the consumer asks for room, and is told of it.
            room_changed=lambda: consumer.wake(),  # noqa: PLW0108
        )
        consumer = broker.consumer(JOB_CREATED, room=lambda: app.room(service, consumer))

        async def consuming() -> str | None:
            if service.room == 0:
                return None if service.held else "stopping"
            return None if consumer.consuming else "jobs are not being taken"

        probes = Probes({"database": store.ping, "broker": broker.ping, "consumer": consuming})
        await opened.enter_async_context(
            HttpServer.running(
                probes.asgi, host=settings.bind_host, port=settings.bind_port, goodbye_s=0, grace_s=PROBE_GRACE_S
            )
        )
        crash_points.on_command("close-client", broker.close_client)
        await app.run(settings, broker=broker, consumer=consumer, service=service, stopping=stopping)


def main() -> None:
    """Run the process; does not return."""
    settings = load(Settings)
    logs.configure(NAME, settings.log_level, settings.log_format)
    process.run(lambda stopping: serve(settings, stopping), settings.silence_s)


if __name__ == "__main__":
    main()
