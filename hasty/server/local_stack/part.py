"""What makes a child of the stack, and what a child may be doing."""

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.probes import Probe
from hasty.server.local_stack.process import Command

Tell = Callable[[str], None]


class State(Enum):
    """What a child is doing, in the words of the live view."""

    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    WAITING = "starting again"
    STOPPING = "stopping"
    DOWN = "down"


@dataclass(frozen=True)
class Part:
    """What makes a child: its names, how it is run and asked, and how it is ended.

    `plan` is called before every start, and may write what the program reads. `url_at` gives
    its URL, with its login, as reached at an address. `data` is what `Child.wipe` removes.
    `refusal` opens a probe of whether it refuses to store, for as long as it is open: see `disks.keep_storing`.
    """

    name: str
    role: str
    ports: Sequence[Port]
    plan: Callable[[], Command]
    probe: Probe
    log: Path
    url_at: Callable[[str], str] | None = None
    data: Path | None = None
    refusal: Callable[[], AbstractAsyncContextManager[Probe]] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 5.0
