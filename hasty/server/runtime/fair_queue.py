"""A queue that serves its callers in rotation."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Gives one item of each caller that has any, then the next item of each; a caller's own items keep their order.

    So a caller that comes after one with a thousand items waits for one of them, not for all.
    """

    def __init__(self) -> None:
        # Only callers with items; the first of `_rotation` is the next.
        self._lines: dict[str, deque[T]] = {}
        self._rotation: deque[str] = deque()
        self._size = 0

    def __len__(self) -> int:
        """How many items wait, of all callers."""
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All items, in no particular order between callers."""
        for line in self._lines.values():
            yield from line

    def put(self, item: T, caller: str) -> None:
        """Put an item at the end of a caller's line."""
        line = self._lines.get(caller)
        if line is None:
            self._lines[caller] = deque((item,))
            self._rotation.append(caller)
        else:
            line.append(item)
        self._size += 1

    def take(self, most: int) -> list[T]:
        """Remove and return up to `most` items, from one caller after the other."""
        if self._size <= most and len(self._rotation) == 1:
            items = list(self._lines[self._rotation[0]])
            self.clear()
            return items
        items = []
        while self._rotation and len(items) < most:
            caller = self._rotation.popleft()
            line = self._lines[caller]
            items.append(line.popleft())
            if line:
                self._rotation.append(caller)
            else:
                del self._lines[caller]
        self._size -= len(items)
        return items

    def displace(self, caller: str) -> T | None:
        """Remove and return the newest item of the caller with most; None when `caller` has as many, or one less."""
        longest = max(self._lines.values(), key=len)
        if len(longest) <= len(self._lines.get(caller, ())) + 1:
            return None
        self._size -= 1
        return longest.pop()

    def clear(self) -> None:
        """Remove all items."""
        self._lines.clear()
        self._rotation.clear()
        self._size = 0
