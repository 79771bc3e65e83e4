"""Ends process groups when the process that started them is gone, whatever has ended it.

The child starts this file, without Hasty and without any package, with a pipe as standard input: ``+123`` in a line
notes the group 123, ``-123`` forgets it. When the pipe's other end is closed, or its parent is another one, the guard
kills the groups that it knows and exits. It keeps the standard output and error that it has inherited open until then:
the job-server, which reads them to their end, starts nothing again before the groups are gone.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator

LOOK_EVERY_S = 1.0
"""How often it looks at its parent: a fork of the child may hold the pipe open."""

LINE_MAX = 64


def main() -> None:
    """Note groups until the parent is gone, then kill them."""
    groups: set[int] = set()
    for line in _lines(os.getppid()):
        with contextlib.suppress(ValueError):
            number = int(line)
            if number > 1:
                groups.add(number)
            else:
                groups.discard(-number)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _lines(parent: int) -> Iterator[bytes]:
    rest = b""
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_EVERY_S)
        if not ready:
            continue
        some = os.read(sys.stdin.fileno(), 65536)
        if not some:
            return
        *lines, rest = (rest + some).split(b"\n")
        # A handler may have written anything to the pipe.
        rest = rest[-LINE_MAX:]
        yield from lines


if __name__ == "__main__":
    main()
