"""The kinds that this job-server serves: announced to the api-servers, and consumed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from hasty.jobs import Kind
from hasty.server.messaging.consumer import PullConsumer
from hasty.server.messaging.events import Outgoing, announced_kind
from hasty.server.runtime.logs import get_logger
from hasty.server.runtime.process import end

log = get_logger(__name__)

RETRY_S: Final = 1.0


class Publisher(Protocol):
    """What publishes announcements; see `hasty.server.messaging.publisher.Publisher`."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]: ...


class Announcer:
    """Announces kinds whenever they change, and when asked to; again and again until the broker holds all of them."""

    def __init__(self, publisher: Publisher, kinds: Callable[[], Mapping[str, Kind]]) -> None:
        self._publisher = publisher
        self._kinds = kinds
        self._wanted = asyncio.Event()

    def announce(self) -> None:
        """Have the kinds announced: they are others now, or the broker is back."""
        self._wanted.set()

    async def run(self) -> None:
        """Announce for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            messages = [announced_kind(kind) for kind in self._kinds().values()]
            if messages and not all(await self._publisher.publish(messages)):
                self._wanted.set()
                await asyncio.sleep(RETRY_S)


class KindConsumers:
    """A consumer for each kind: `consumer_of` makes it, and `consume` is what it is consumed by."""

    def __init__(
        self,
        consumer_of: Callable[[str], PullConsumer],
        consume: Callable[[PullConsumer], Coroutine[Any, Any, None]],
    ) -> None:
        self._consumer_of = consumer_of
        self._consume = consume
        self._consumers: dict[str, PullConsumer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def serve(self, kinds: Mapping[str, Kind]) -> None:
        """Consume the turns of these kinds and of no others."""
        for name in kinds.keys() - self._consumers.keys():
            consumer = self._consumers[name] = self._consumer_of(name)
            self._tasks[name] = asyncio.create_task(self._consume(consumer), name=f"take {name}")
        for name in self._consumers.keys() - kinds.keys():
            self._consumers.pop(name).stop()
            task = self._tasks.pop(name)
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def wake(self) -> None:
        """Say that there may be free slots again."""
        for consumer in self._consumers.values():
            consumer.wake()

    def stop(self) -> None:
        """Open no more pulls."""
        self.serve({})

    async def until_stopped(self, timeout_s: float) -> None:
        """Wait for the pulls that are open, and give up those that take longer."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=timeout_s)
        await end(list(self._ending))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[KindConsumers]:
        """Stop everything at the end."""
        try:
            yield self
        finally:
            self.stop()
            await end(list(self._ending))
