"""Group commit: what arrives while a batch is under way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from hasty.server.runtime.fair_queue import FairQueue
from hasty.server.runtime.logs import get_logger

T = TypeVar("T")
R = TypeVar("R")

# An item, the future of who waits for its result (None: the item was posted), and since when, in the loop's time.
_Entry = tuple[T, "asyncio.Future[R] | None", float]

log = get_logger(__name__)

QUIET_S: Final = 0.03
"""Longer than between two groups of requests or endings under load; nobody else would share a batch after that."""


class Overloaded(Exception):
    """More items wait than can be served in time; this one was not started, and may be sent again later."""


class Batcher(Generic[T, R]):
    """Hands items to `flush` in batches, one batch at a time, in the order they came.

    Items may name a caller: then callers are served in rotation, and only a caller's own items leave in the order they
    came. A caller with few items does not wait for all that others have asked for before.

    A single item never waits for others: it leaves at once when no batch is under way, and with everything that came
    meanwhile as soon as the batch before it is back. So the batch size follows the load by itself.

    `flush` gets 1 to `max_batch` items and returns one result per item, in the same order; a result that is an
    exception is raised to that item's caller alone. When `flush` itself raises, each member of the batch gets that
    error. A caller that is cancelled while waiting is left out; one cancelled later does not disturb its batch.

    With `min_interval_s`, a batch of more than one is followed by the next so many seconds after it left, or sooner
    when that one is full or nothing has come for `QUIET_S`: where a round trip costs much and a few milliseconds do not
    matter, more items share it. A single item still leaves at once.

    A caller that has no result after `timeout_s` seconds gets the exception that `timeout_error` makes of a text,
    whatever hangs; `Overloaded` instead, when its item is still waiting although batches came back meanwhile. One timer
    serves all, so it may come up to an eighth of that later.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        name: str,
        max_batch: int,
        max_waiting: int = 100_000,
        timeout_s: float = float("inf"),
        timeout_error: Callable[[str], Exception] = TimeoutError,
        min_interval_s: float = 0.0,
    ) -> None:
        self._flush = flush
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._timeout_error = timeout_error
        self._min_interval_s = min_interval_s
        self._waiting: FairQueue[_Entry[T, R]] = FairQueue()
        self._under_way: list[_Entry[T, R]] = []
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When a batch last came back without an error of its own, in the loop's time.
        self._served_at = float("-inf")

    def __len__(self) -> int:
        """How many items wait for their batch to leave."""
        return len(self._waiting)

    def submit(self, item: T, caller: str = "") -> asyncio.Future[R]:
        """Put an item into the next batch; the future gets its result.

        When `max_waiting` items wait already, the caller that has most of them is refused its newest one.

        Raises:
            Overloaded: when that is this one; in the future when it is another.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._add(item, future, loop.time(), caller)
        if self._timer is None and self._timeout_s != float("inf"):
            self._timer = loop.call_later(self._timeout_s, self._expire_old)
        return future

    def post(self, item: T) -> None:
        """Put an item into the next batch without asking for its result; `flush` deals with its failures.

        A batcher that is posted to is not submitted to: what was posted is never refused later.

        Raises:
            Overloaded: when `max_waiting` items wait already.
        """
        self._add(item, None, 0.0, "")

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

    def _add(self, item: T, future: asyncio.Future[R] | None, since: float, caller: str) -> None:
        if len(self._waiting) >= self._max_waiting:
            self._make_space(caller)
        self._waiting.put((item, future, since), caller)
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def _make_space(self, caller: str) -> None:
        refusal = Overloaded(f"{self._name}: {len(self._waiting)} are waiting already")
        displaced = self._waiting.displace(caller)
        if displaced is None:
            raise refusal
        _, future, _ = displaced
        if future is not None and not future.done():
            future.set_exception(refusal)

    async def _run(self) -> None:
        try:
            while self._take_next():
                left_at = asyncio.get_running_loop().time()
                await self._serve(self._under_way)
                await self._keep_interval(left_at)
        except asyncio.CancelledError:
            for _, future, _ in (*self._under_way, *self._waiting):
                if future is not None:
                    future.cancel()
            self._waiting.clear()
            raise
        finally:
            self._under_way = []
            self._runner = None

    async def _keep_interval(self, left_at: float) -> None:
        if len(self._under_way) < 2:  # noqa: PLR2004 - a single item
            return
        clock = asyncio.get_running_loop().time
        now = came_at = clock()
        came = len(self._waiting)
        until = left_at + self._min_interval_s
        while now < until and came < self._max_batch and not (came and now - came_at >= QUIET_S):
            await asyncio.sleep(min(QUIET_S / 4, until - now))
            now = clock()
            if len(self._waiting) != came:
                came, came_at = len(self._waiting), now

    def _take_next(self) -> bool:
        batch: list[_Entry[T, R]] = []
        self._under_way = batch
        while self._waiting and len(batch) < self._max_batch:
            taken = self._waiting.take(self._max_batch - len(batch))
            batch += [entry for entry in taken if entry[1] is None or not entry[1].done()]
        return bool(batch)

    async def _serve(self, batch: list[_Entry[T, R]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = await self._flush([item for item, _, _ in batch])
            self._served_at = asyncio.get_running_loop().time()
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

    def _expire_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        too_old = loop.time() - self._timeout_s
        waits = False
        problem = f"{self._name}: no result within {self._timeout_s:g} s"
        for is_under_way, entries in ((True, self._under_way), (False, self._waiting)):
            for _, future, since in entries:
                if future is None or future.done():
                    continue
                if since > too_old:
                    waits = True
                elif is_under_way or self._served_at < since:
                    future.set_exception(self._timeout_error(problem))
                else:
                    future.set_exception(Overloaded(f"{problem}, {len(self._waiting)} are waiting"))
        if waits:
            self._timer = loop.call_later(self._timeout_s / 8, self._expire_old)
