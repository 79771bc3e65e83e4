"""Start the set-up process: the only one whose login may make streams and consumers.

It makes what is missing when it connects, every 30 seconds, and when an api-server asks for it. An api-server names the
kinds that need a consumer each time it asks, so nothing is stored here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from api_server.settings import SetUpSettings
from api_server.topology import SET_UP, States, TopologyKeeper, identities_of
from hasty.jobs import KIND_NAME
from hasty.server.messaging import watchdog
from hasty.server.messaging.connection import BrokerUnavailable, Connection
from hasty.server.messaging.listening import listen
from hasty.server.messaging.provisioning import TopologyConflict, ensure
from hasty.server.runtime import command_line, logs, output, process
from hasty.server.runtime.http import HttpServer
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.probes import CHECK_TIMEOUT_S, Probes

log = get_logger(__name__)

NAME: Final = "set-up"
KINDS_MAX: Final = 10_000
"""So many kinds get a consumer at most: whoever asks for more is not one of our api-servers."""

_KINDS: Final = TypeAdapter(list[Annotated[str, Field(pattern=f"^{KIND_NAME.pattern}$")]])


class Requests:
    """Answers api-servers that ask for what is missing, and remembers the kinds they asked for.

    `ensure` is called with all those kinds and returns which streams there are then. `on_failed` is called when that
    failed.
    """

    def __init__(
        self, ensure: Callable[[Collection[str]], Awaitable[States]], on_failed: Callable[[], None] = lambda: None
    ) -> None:
        self._ensure = ensure
        self.on_failed = on_failed
        self._kinds: set[str] = set()

    def kinds(self) -> list[str]:
        """Return all kinds that were asked for."""
        return sorted(self._kinds)

    async def answer(self, data: bytes) -> bytes | None:
        """Do what a request asks for; one that is malformed or cannot be met now gets no answer."""
        try:
            kinds = _KINDS.validate_json(data)
        except ValidationError:
            log.warning("set_up_request_refused", reason="not a list of kinds", size=len(data))
            return None
        if len(self._kinds.union(kinds)) > KINDS_MAX:
            log.warning("set_up_request_refused", reason=f"more than {KINDS_MAX} kinds", size=len(data))
            return None
        self._kinds.update(kinds)
        try:
            return identities_of(await self._ensure(self.kinds()))
        except (BrokerUnavailable, TopologyConflict) as error:
            log.warning("topology_not_checked", reason=str(error))
            # A conflict ends the process there.
            self.on_failed()
            return None


async def serve(settings: SetUpSettings, stopping: process.Stopping) -> None:
    """Run until asked to stop."""
    async with contextlib.AsyncExitStack() as opened:
        connection = await opened.enter_async_context(Connection.opened(settings.nats_url, name=NAME))

        async def ensure_all(kinds: Collection[str]) -> States:
            return await ensure(connection, settings.ack_wait_s, settings.nats_replicas, kinds)

        requests = Requests(ensure_all)
        keeper = TopologyKeeper(connection, ensure_all, kinds=requests.kinds)
        requests.on_failed = keeper.soon
        keeper.watch(connection)

        async def broker() -> str | None:
            await connection.ping()
            return None if keeper.well else "streams and consumers are not all in place"

        probes = Probes({"broker": broker})
        await opened.enter_async_context(
            HttpServer.running(
                probes.asgi, host=settings.bind_host, port=settings.bind_port, drain_s=0, grace_s=CHECK_TIMEOUT_S + 1
            )
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(keeper.run(), name="topology"),
                tasks.create_task(listen(connection, SET_UP, requests.answer), name="requests"),
                tasks.create_task(watchdog.watch(connection, settings.silence_s), name="watchdog"),
            ]
            log.info("started", port=settings.bind_port)
            try:
                await stopping.wait()
                log.info("stopping", reason=stopping.reason)
            finally:
                await process.end(running)
    log.info("stopped")


def main() -> None:
    """Run the process; does not return."""
    output.discard_failed_writes()
    settings = command_line.read(SetUpSettings, NAME, module="api_server.set_up")
    logs.configure(NAME, settings.log_level, settings.log_format)
    process.run(partial(serve, settings), settings.silence_s, settings.faults_dir)


if __name__ == "__main__":
    main()
