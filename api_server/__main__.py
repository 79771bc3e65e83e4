"""Start an api-server: read its settings, open its resources, run it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from api_server.app import App, read_time
from api_server.clock import DatabaseClock
from api_server.errors import StoreUnavailable
from api_server.metrics import publish_clock_offset
from api_server.routes import Contract, make_app
from api_server.service import Service
from api_server.settings import Settings
from api_server.store import JobStore
from messaging.jetstream import JetStream
from runtime import crash_points, logs, process
from runtime.http import HttpServer
from runtime.probes import Probes
from runtime.settings import load

if TYPE_CHECKING:
    from datetime import datetime

NAME: Final = "api-server"
GOODBYE_S: Final = 2.0
NO_TIME: Final = "the database has not told its time yet"


async def serve(settings: Settings, stopping: process.Stopping) -> None:
    """Run an api-server with these settings until asked to stop."""
    clock = DatabaseClock()

    def now() -> datetime:
        if not clock.known:
            raise StoreUnavailable(NO_TIME)
        return clock.now()

    async with contextlib.AsyncExitStack() as opened:
        try:
            store = await opened.enter_async_context(JobStore.opened(settings.api_mongo_url))
        except ValueError as error:
            raise process.Leave(process.EXIT_FAILED, f"HASTY_API_MONGO_URL: {error}") from None
        broker = await opened.enter_async_context(JetStream.opened(settings.nats_url, name=NAME))
        set_up = broker
        if settings.nats_setup_url not in {None, settings.nats_url}:
            set_up = await opened.enter_async_context(
                JetStream.opened(str(settings.nats_setup_url), name=f"{NAME} set-up")
            )
        service = Service(
            store,
            broker,
            now=now,
            cooldown=timedelta(seconds=settings.cooldown_s),
            overdue=timedelta(seconds=settings.overdue_s),
            name=logs.worker_name(),
        )

        async def database() -> str | None:
            try:
                await store.ping()
            except StoreUnavailable as error:
                return error.reason
            return None if clock.known else NO_TIME

        async def consumer() -> str | None:
            return None if app.consuming else "outcomes are not being consumed"

        probes = Probes(
            {"database": database, "broker": broker.ping, "consumer": consumer},
            # Jobs are accepted without the broker, and dispatched when it is back.
            optional=frozenset({"broker", "consumer"}),
        )
        # Whoever is sent here from the first moment on gets an answer; without a database, that it is away.
        with contextlib.suppress(StoreUnavailable):
            await read_time(store, clock)
        contract = Contract(service)
        http = await opened.enter_async_context(
            HttpServer.running(
                make_app(contract, probes),
                shortcut=contract,
                host=settings.bind_host,
                port=settings.bind_port,
                goodbye_s=min(GOODBYE_S, settings.shutdown_grace_s / 2),
                linger_s=settings.linger_s,
                grace_s=settings.shutdown_grace_s,
            )
        )
        app = App(settings, store=store, broker=broker, set_up=set_up, clock=clock, service=service, http=http)
        publish_clock_offset(clock)
        crash_points.on_command("close-client", broker.close_client)
        await app.run(stopping)


def main() -> None:
    """Run the process; does not return."""
    settings = load(Settings)
    logs.configure(NAME, settings.log_level, settings.log_format)
    process.run(lambda stopping: serve(settings, stopping), settings.silence_s)


if __name__ == "__main__":
    main()
