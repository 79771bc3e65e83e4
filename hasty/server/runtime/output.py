"""Standard output and error of a process that must not end because they cannot be written."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from prometheus_client import Counter

if TYPE_CHECKING:  # there is no such module at run time
    from _typeshed import ReadableBuffer

FAILED = Counter("hasty_log_writes_failed", "Writes to standard output or error that failed")
_LAST_STANDARD_DESCRIPTOR = 2


def discard_failed_writes() -> None:
    """Make `sys.stdout` and `sys.stderr` discard and count what a full disk or a broken pipe refuses.

    One that was closed when the process started leads to /dev/null. To be called first, before anything is written or
    connected: the next file or socket would get the number of a closed output, and with it what others write there.
    """
    _occupy_closed_descriptors()
    sys.stdout = _lossy(sys.stdout)
    sys.stderr = _lossy(sys.stderr)


class _Lossy(io.FileIO):
    """A descriptor whose `write` never raises OSError. Nothing is buffered, so no later flush can fail either."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, or count it as failed."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) or size :]
        except OSError:
            FAILED.inc()
        return size


def _lossy(stream: TextIO | None) -> TextIO:
    # Python has no stream for a descriptor that was closed at the start.
    target: int | str = os.devnull if stream is None else stream.fileno()
    encoding = "utf-8" if stream is None else stream.encoding
    raw = _Lossy(target, "w", closefd=stream is None)
    return io.TextIOWrapper(raw, encoding, errors="backslashreplace", write_through=True)


def _occupy_closed_descriptors() -> None:
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_DESCRIPTOR:
        pass
    os.close(descriptor)
