"""The queue that serves callers in turn: fair between them, in order for each, and nothing lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hasty.server.runtime.fair_queue import FairQueue

CALLERS = st.sampled_from("abcd")


def filled(callers: str) -> FairQueue[tuple[str, int]]:
    """A queue with an item for each letter: who put it, and where it stands among all."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, caller in enumerate(callers):
        queue.put((caller, number), caller)
    return queue


def test_second_caller_waits_for_one_item_of_first() -> None:
    """However many the first one has put before."""
    queue = filled("aaaaab")
    assert queue.take(6) == [("a", 0), ("b", 5), ("a", 1), ("a", 2), ("a", 3), ("a", 4)]


def test_caller_that_comes_back_waits_for_its_turn() -> None:
    """To leave the line and come back is no way to the front."""
    queue = filled("aab")
    assert queue.take(2) == [("a", 0), ("b", 2)]
    queue.put(("b", 3), "b")
    queue.put(("b", 4), "b")
    assert queue.take(3) == [("a", 1), ("b", 3), ("b", 4)]


def test_empty_queue_gives_nothing() -> None:
    """Nor does it wait."""
    queue = filled("a")
    assert queue.take(5) == [("a", 0)]
    assert (len(queue), queue.take(5)) == (0, [])


def test_cleared_queue_is_empty_and_usable() -> None:
    """Nothing of before comes up again."""
    queue = filled("aab")
    queue.clear()
    assert (len(queue), list(queue)) == (0, [])
    queue.put(("b", 9), "b")
    assert queue.take(1) == [("b", 9)]


def test_caller_with_most_is_displaced() -> None:
    """Its newest item goes, as long as the other one has less by two."""
    queue = filled("aaab")
    assert queue.displace("b") == ("a", 2)
    assert queue.displace("b") is None
    assert queue.displace("c") == ("a", 1)
    assert queue.displace("c") is None
    assert queue.displace("a") is None
    assert queue.take(2) == [("a", 0), ("b", 3)]


@given(steps=st.lists(st.one_of(CALLERS, st.integers(1, 6))))
def test_any_sequence_loses_nothing_and_is_fair(steps: list[str | int]) -> None:
    """A letter is a put by that caller, a number is a take of so many."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    waiting: dict[str, list[int]] = {caller: [] for caller in "abcd"}
    passed_over: Counter[str] = Counter()
    for number, step in enumerate(steps):
        if isinstance(step, str):
            queue.put((step, number), step)
            waiting[step].append(number)
            continue
        items = queue.take(step)
        assert len(items) == min(step, sum(map(len, waiting.values())))
        for caller, item in items:
            # The caller's own order.
            assert item == waiting[caller].pop(0)
            passed_over.update({other: 1 for other, line in waiting.items() if line and other != caller})
            del passed_over[caller]
            # Each of the three others comes first at most once.
            assert all(count <= 3 for count in passed_over.values())
        assert len(queue) == len(list(queue)) == sum(map(len, waiting.values()))
