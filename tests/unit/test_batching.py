"""Group commit: its order, its bounds and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hasty.server.runtime import batching
from hasty.server.runtime.batching import Batcher, Overloaded


class Gate:
    """A flush that waits until it is told to go on, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, batch: Sequence[int]) -> list[int | Exception]:
        """Flush a batch once the gate is open."""
        self.batches.append(list(batch))
        await self.open.wait()
        return [item * 10 for item in batch]


async def test_a_lone_item_leaves_at_once() -> None:
    """Nobody waits for company."""
    gate = Gate()
    gate.open.set()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=8)
    assert await batcher.submit(1) == 10
    assert gate.batches == [[1]]


async def test_what_comes_while_a_batch_is_under_way_shares_the_next() -> None:
    """One trip at a time, and everybody who waited is in the next."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=8)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    rest = [batcher.submit(number) for number in (2, 3, 4)]
    gate.open.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert gate.batches == [[1], [2, 3, 4]]


@settings(max_examples=50, deadline=None)
@given(numbers=st.lists(st.integers(), max_size=60), most=st.integers(1, 9), pauses=st.sets(st.integers(0, 60)))
def test_order_and_bound_hold_for_any_arrival(numbers: list[int], most: int, pauses: set[int]) -> None:
    """Items leave in the order they came, none twice, none lost, never more than the bound together."""

    async def run() -> tuple[list[list[int]], list[int]]:
        batches: list[list[int]] = []

        async def flush(batch: Sequence[int]) -> list[int | Exception]:
            batches.append(list(batch))
            await asyncio.sleep(0)
            return [number + 1 for number in batch]

        batcher: Batcher[int, int] = Batcher(flush, name="test", max_batch=most)
        futures = []
        for position, number in enumerate(numbers):
            futures.append(batcher.submit(number))
            if position in pauses:
                await asyncio.sleep(0)
        return batches, list(await asyncio.gather(*futures))

    batches, results = asyncio.run(run())
    assert [number for batch in batches for number in batch] == numbers
    assert all(1 <= len(batch) <= most for batch in batches)
    assert results == [number + 1 for number in numbers]


@settings(max_examples=50, deadline=None)
@given(
    fates=st.lists(st.sampled_from(["ok", "own error", "cancelled early", "cancelled late"]), min_size=1, max_size=30)
)
def test_each_member_gets_what_it_deserves(  # noqa: C901 - one case per fate
    fates: list[str],
) -> None:
    """An error of one, or a caller that went away, is nobody else's."""

    async def run() -> list[object]:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def flush(batch: Sequence[tuple[int, str]]) -> list[int | Exception]:
            started.set()
            await go_on.wait()
            return [KeyError(number) if fate == "own error" else number for number, fate in batch]

        batcher: Batcher[tuple[int, str], int] = Batcher(flush, name="test", max_batch=100)
        futures = [batcher.submit((number, fate)) for number, fate in enumerate(fates)]
        for future, fate in zip(futures, fates, strict=True):
            if fate == "cancelled early":
                future.cancel()
        if any(fate != "cancelled early" for fate in fates):
            await started.wait()
        for future, fate in zip(futures, fates, strict=True):
            if fate == "cancelled late":
                future.cancel()
        go_on.set()
        await batcher.drain()
        return ["cancelled" if f.cancelled() else f.exception() or ("result", f.result()) for f in futures]

    for number, (fate, result) in enumerate(zip(fates, asyncio.run(run()), strict=True)):
        match fate:
            case "ok":
                assert result == ("result", number)
            case "own error":
                assert isinstance(result, KeyError)
                assert result.args == (number,)
            case _:
                assert result == "cancelled"


async def test_a_failed_batch_fails_its_members_and_nobody_else() -> None:
    """The next batch leaves as if nothing had happened."""
    failures = [OSError("away")]

    async def flush(batch: Sequence[int]) -> list[int | Exception]:
        if failures:
            raise failures.pop()
        return list(batch)

    batcher: Batcher[int, int] = Batcher(flush, name="test", max_batch=2)
    futures = [batcher.submit(number) for number in range(4)]
    await batcher.drain()
    assert [type(future.exception()) for future in futures] == [OSError, OSError, type(None), type(None)]


async def test_more_than_can_wait_is_refused() -> None:
    """The bound is on those who wait, and refusal is immediate."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, max_waiting=2)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    others = [batcher.submit(2), batcher.submit(3)]
    with pytest.raises(Overloaded):
        batcher.submit(4)
    gate.open.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]


async def test_timeout_ends_running_and_waiting_items() -> None:
    """Whatever hangs, every caller hears something; the hanging batch goes on undisturbed."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, timeout_s=0.05)
    futures = [batcher.submit(1), batcher.submit(2)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError, TimeoutError]
    gate.open.set()
    await batcher.drain()
    # The second never left: nobody wanted it any more.
    assert gate.batches == [[1]]


async def test_timeout_comes_for_later_items_too() -> None:
    """The timer that ends the first one is set again for those that came after it."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, timeout_s=0.2)
    first = batcher.submit(1)
    await asyncio.sleep(0.1)
    second = batcher.submit(2)
    async with asyncio.timeout(60):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [str(result) for result in results] == ["test: no result within 0.2 s"] * 2
    await batcher.close()


async def test_failure_of_posted_items_is_logged() -> None:
    """Nobody waits who could be given the error; with one who waits for all, there is nothing to log."""

    async def fail(batch: Sequence[int]) -> list[int | Exception]:
        raise ValueError(f"{len(batch)} items")

    batcher: Batcher[int, int] = Batcher(fail, name="test", max_batch=8)
    with capture_logs() as logs:
        with pytest.raises(ValueError, match="1 items"):
            await batcher.submit(1)
        batcher.post(2)
        batcher.post(3)
        await batcher.drain()
    [line] = logs
    assert (line["event"], line["log_level"], line["batch"], line["size"]) == ("batch_failed", "error", "test", 2)


async def test_waiting_too_long_behind_others_is_overload() -> None:
    """Batches come back, only not soon enough for all: what failed is not what `flush` does."""

    async def slow(batch: Sequence[int]) -> list[int | Exception]:
        await asyncio.sleep(0.1)
        return list(batch)

    batcher: Batcher[int, int] = Batcher(slow, name="test", max_batch=1, timeout_s=0.25)
    results = await asyncio.gather(*(batcher.submit(number) for number in range(40)), return_exceptions=True)
    assert results[0] == 0
    assert type(results[-1]) is Overloaded
    await batcher.close()


async def test_after_company_the_next_batch_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that more share it."""
    monkeypatch.setattr(batching, "QUIET_S", 3600)
    left_at: list[float] = []

    async def flush(batch: Sequence[int]) -> list[int | Exception]:
        left_at.append(asyncio.get_running_loop().time())
        return list(batch)

    batcher: Batcher[int, int] = Batcher(flush, name="test", max_batch=8, min_interval_s=0.1)
    await asyncio.gather(batcher.submit(1), batcher.submit(2))
    await batcher.submit(3)
    assert left_at[1] - left_at[0] >= 0.1


async def test_a_rest_ends_when_nothing_comes_any_more() -> None:
    """Nobody else would share the batch: here it would rest for an hour."""
    gate = Gate()
    gate.open.set()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=8, min_interval_s=3600)
    async with asyncio.timeout(30):
        await asyncio.gather(batcher.submit(1), batcher.submit(2))
        assert list(await asyncio.gather(batcher.submit(3), batcher.submit(4))) == [30, 40]
    assert [len(batch) for batch in gate.batches] == [2, 2]
    await batcher.close()


async def test_a_full_batch_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more could share it."""
    monkeypatch.setattr(batching, "QUIET_S", 3600)
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=2, min_interval_s=3600)
    futures = [batcher.submit(number) for number in range(4)]
    gate.open.set()
    async with asyncio.timeout(30):
        assert list(await asyncio.gather(*futures)) == [0, 10, 20, 30]
    await batcher.close()


async def test_a_lone_item_is_never_followed_by_a_rest() -> None:
    """Rest is for load: here it would last an hour."""
    gate = Gate()
    gate.open.set()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=8, min_interval_s=3600)
    async with asyncio.timeout(30):
        for number in range(3):
            await batcher.submit(number)
            await batcher.drain()
    assert gate.batches == [[0], [1], [2]]


async def test_closing_cancels_who_waits() -> None:
    """Nobody is left waiting for ever."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1)
    futures = [batcher.submit(1), batcher.submit(2)]
    await asyncio.sleep(0)
    await batcher.close()
    assert all(future.cancelled() for future in futures)
    assert len(batcher) == 0


async def test_a_posted_item_is_flushed_although_nobody_waits() -> None:
    """`drain` is how one waits for posted items."""
    gate = Gate()
    gate.open.set()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=8)
    batcher.post(1)
    batcher.post(2)
    await batcher.drain()
    assert gate.batches == [[1, 2]]


async def test_callers_take_turns() -> None:
    """The second caller's item is in the next batch, whatever the first one has asked before."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=3)
    busy = [batcher.submit(number, "busy") for number in range(7)]
    quiet = batcher.submit(99, "quiet")
    gate.open.set()
    assert await asyncio.gather(*busy, quiet) == [0, 10, 20, 30, 40, 50, 60, 990]
    assert gate.batches == [[0, 99, 1], [2, 3, 4], [5, 6]]


async def test_full_batcher_refuses_caller_that_has_most() -> None:
    """Its newest item makes space for others, until they have as much as it has."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, max_waiting=4)
    under_way = batcher.submit(0, "busy")
    await asyncio.sleep(0)
    busy = [batcher.submit(number, "busy") for number in (1, 2, 3, 4)]
    with pytest.raises(Overloaded, match="test: 4 are waiting already"):
        batcher.submit(5, "busy")
    quiet = [batcher.submit(number, "quiet") for number in (6, 7)]
    with pytest.raises(Overloaded):
        batcher.submit(8, "quiet")
    with pytest.raises(Overloaded):
        batcher.submit(9, "busy")
    for displaced in busy[2:]:
        with pytest.raises(Overloaded, match="test: 4 are waiting already"):
            await displaced
    assert len(batcher) == 4
    gate.open.set()
    assert await asyncio.gather(under_way, *busy[:2], *quiet) == [0, 10, 20, 60, 70]
    assert gate.batches == [[0], [1], [6], [2], [7]]


async def test_cancelled_item_makes_space_silently() -> None:
    """Nobody waits for the result of what is displaced."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, max_waiting=2)
    under_way = batcher.submit(0, "busy")
    await asyncio.sleep(0)
    first, second = batcher.submit(1, "busy"), batcher.submit(2, "busy")
    second.cancel()
    quiet = batcher.submit(3, "quiet")
    gate.open.set()
    assert list(await asyncio.gather(under_way, first, quiet)) == [0, 10, 30]


async def test_item_under_way_too_long_is_no_overload() -> None:
    """Others were served since it came, but it does not wait any more: what it was given to does not answer."""
    gate = Gate()
    batcher: Batcher[int, int] = Batcher(gate, name="test", max_batch=1, timeout_s=0.2)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    second = batcher.submit(2)
    gate.open.set()
    gate.open = asyncio.Event()
    assert await first == 10
    with pytest.raises(TimeoutError):
        await second
    await batcher.close()
