"""Group commit: those who ask while a trip is under way share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

log = get_logger(__name__)


class Overloaded(Exception):
    """More is waiting than can be worked off in good time; the caller should come back later."""


class Batcher(Generic[T, R]):
    """Hands items to `flush` in batches, one batch at a time, in the order they came.

    A lone item never waits for company: it leaves at once when no batch is under way, and with everything that came
    meanwhile as soon as the batch before it is back. So the batch size follows the load by itself.

    `flush` gets 1 to `max_batch` items and returns one result per item, in the same order; a result that is an
    exception is raised to that item's caller alone. When `flush` itself raises, each member of the batch gets that
    error. A caller that is cancelled while waiting is left out; one cancelled later does not disturb its batch.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        name: str,
        max_batch: int,
        max_waiting: int = 100_000,
    ) -> None:
        self._flush = flush
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[T, asyncio.Future[R] | None]] = deque()
        self._runner: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many items wait for their batch to leave."""
        return len(self._waiting)

    def submit(self, item: T) -> asyncio.Future[R]:
        """Put an item into the next batch; the future gets its result.

        Raises:
            Overloaded: when `max_waiting` items wait already.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._add(item, future)
        return future

    def post(self, item: T) -> None:
        """Put an item into the next batch without asking for its result; `flush` deals with its failures.

        Raises:
            Overloaded: when `max_waiting` items wait already.
        """
        self._add(item, None)

    async def drain(self) -> None:
        """Return when nothing waits and no batch is under way."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def close(self) -> None:
        """Give up what waits and what is under way; who waits for a result is cancelled."""
        if self._runner is not None:
            self._runner.cancel()
            await self.drain()

    def _add(self, item: T, future: asyncio.Future[R] | None) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{self._name}: {len(self._waiting)} are waiting already")
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        batch: list[tuple[T, asyncio.Future[R] | None]] = []
        try:
            while batch := self._next():
                await self._serve(batch)
        except asyncio.CancelledError:
            for _, future in (*batch, *self._waiting):
                if future is not None:
                    future.cancel()
            self._waiting.clear()
            raise
        finally:
            self._runner = None

    def _next(self) -> list[tuple[T, asyncio.Future[R] | None]]:
        batch: list[tuple[T, asyncio.Future[R] | None]] = []
        while self._waiting and len(batch) < self._max_batch:
            item, future = self._waiting.popleft()
            if future is None or not future.cancelled():
                batch.append((item, future))
        return batch

    async def _serve(self, batch: list[tuple[T, asyncio.Future[R] | None]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:
            # It belongs to the callers; this loop must go on for the others.
            if any(future is None for _, future in batch):
                log.exception("batch_failed", batch=self._name, size=len(batch))
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future is None or future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
