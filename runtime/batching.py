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

# An item, the future of who waits for its result (None: nobody does), and since when, in the loop's time.
_Entry = tuple[T, "asyncio.Future[R] | None", float]

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

    With `rest_s`, a batch of more than one is followed by the next no sooner than so many seconds after it left: where
    a trip costs much and a few milliseconds cost nobody anything, more share it. A lone item still leaves at once.

    A caller who has not got its result after `patience_s` seconds gets the exception that `impatience` makes of a text,
    whatever hangs; one timer serves all, so it may come up to an eighth of that later.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        name: str,
        max_batch: int,
        max_waiting: int = 100_000,
        patience_s: float = float("inf"),
        impatience: Callable[[str], Exception] = TimeoutError,
        rest_s: float = 0.0,
    ) -> None:
        self._flush = flush
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._impatience = impatience
        self._rest_s = rest_s
        self._waiting: deque[_Entry[T, R]] = deque()
        self._under_way: list[_Entry[T, R]] = []
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many items wait for their batch to leave."""
        return len(self._waiting)

    def submit(self, item: T) -> asyncio.Future[R]:
        """Put an item into the next batch; the future gets its result.

        Raises:
            Overloaded: when `max_waiting` items wait already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._add(item, future, loop.time())
        if self._timer is None and self._patience_s != float("inf"):
            self._timer = loop.call_later(self._patience_s, self._lose_patience)
        return future

    def post(self, item: T) -> None:
        """Put an item into the next batch without asking for its result; `flush` deals with its failures.

        Raises:
            Overloaded: when `max_waiting` items wait already.
        """
        self._add(item, None, 0.0)

    async def drain(self) -> None:
        """Return when nothing waits and no batch is under way."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def close(self) -> None:
        """Give up what waits and what is under way; who waits for a result is cancelled."""
        if self._runner is not None:
            self._runner.cancel()
            await self.drain()
        if self._timer is not None:
            self._timer.cancel()

    def _add(self, item: T, future: asyncio.Future[R] | None, since: float) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{self._name}: {len(self._waiting)} are waiting already")
        self._waiting.append((item, future, since))
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        try:
            while self._take_next():
                left_at = asyncio.get_running_loop().time()
                await self._serve(self._under_way)
                await self._rest(left_at)
        except asyncio.CancelledError:
            for _, future, _ in (*self._under_way, *self._waiting):
                if future is not None:
                    future.cancel()
            self._waiting.clear()
            raise
        finally:
            self._under_way = []
            self._runner = None

    async def _rest(self, left_at: float) -> None:
        rest_s = left_at + self._rest_s - asyncio.get_running_loop().time()
        if rest_s > 0 and len(self._under_way) > 1 and len(self._waiting) < self._max_batch:
            await asyncio.sleep(rest_s)

    def _take_next(self) -> bool:
        batch: list[_Entry[T, R]] = []
        self._under_way = batch
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if entry[1] is None or not entry[1].done():
                batch.append(entry)
        return bool(batch)

    async def _serve(self, batch: list[_Entry[T, R]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = await self._flush([item for item, _, _ in batch])
        except Exception as error:
            # It belongs to the callers; this loop must go on for the others.
            if any(future is None for _, future, _ in batch):
                log.exception("batch_failed", batch=self._name, size=len(batch))
            results = [error] * len(batch)
        for (_, future, _), result in zip(batch, results, strict=True):
            if future is None or future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _lose_patience(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        too_old = loop.time() - self._patience_s
        waits = False
        for _, future, since in (*self._under_way, *self._waiting):
            if future is None or future.done():
                continue
            if since <= too_old:
                future.set_exception(self._impatience(f"{self._name}: no result within {self._patience_s:g} s"))
            else:
                waits = True
        if waits:
            self._timer = loop.call_later(self._patience_s / 8, self._lose_patience)
