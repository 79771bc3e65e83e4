"""One line on the terminal about a job that is waited for; nothing where standard error is no terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the client takes 100 ms to load, and `hasty --help` does not need it
    from hasty.client import Hasty, Job

ASK_EVERY_S: Final = 1.0


@contextmanager
def shown(client: Hasty, job: Job) -> Iterator[None]:
    """Show how a job is while inside: why it is where it is, and how far its handler says it is."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
    stop = threading.Event()
    with console.status(line_of(job)) as status:

        def follow() -> None:
            from hasty.client import HastyError

            while not stop.wait(ASK_EVERY_S):
                try:
                    status.update(line_of(client.get(job.id)))
                except HastyError as error:
                    status.update(f"{job.kind}: {error}")

        asking = threading.Thread(target=follow, name="live line", daemon=True)
        asking.start()
        try:
            yield
        finally:
            stop.set()
            asking.join(ASK_EVERY_S)


def line_of(job: Job) -> str:
    """Write how a job is. Its share is what its handler told, and there is none where it told nothing."""
    from rich.markup import escape

    parts = [f"{job.kind} {job.phase or job.status}"]
    if job.progress is not None:
        parts.append(f"{bar(job.progress.done)} {job.progress.done:.0%} {job.progress.note}".rstrip())
    return escape(" · ".join([*parts, job.why]))


def bar(done: float, width: int = 20) -> str:
    """Draw a share from 0 to 1."""
    full = round(done * width)
    return "━" * full + "─" * (width - full)
