"""What the person at the terminal sees: a short live table, or plain lines where there is no terminal."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hasty.server.local_stack.child import Child
from hasty.server.local_stack.part import State
from hasty.server.local_stack.stack import Stack

LINES = 8
ASK_EVERY_S = 5.0
STYLES = {State.READY: "green", State.DOWN: "red", State.WAITING: "red"}


class View:
    """Tells what happens; on a terminal it also shows the children, once there is a stack to show."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: deque[Text] = deque(maxlen=LINES)
        self._stack: Stack | None = None
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the terminal up to date while inside."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._picture, console=self._console, refresh_per_second=2) as self._live:
            yield

    def show(self, stack: Stack) -> None:
        """From now on there is this stack to show."""
        self._stack = stack
        dashboard = "" if stack.dashboard_url is None else f", its dashboard is at {stack.dashboard_url}"
        self.tell(f"Hasty answers on {stack.url}{dashboard} (Ctrl-C ends it)")

    def tell(self, line: str) -> None:
        """One line about something that happened."""
        text = Text(f"{time.strftime('%H:%M:%S')} {line}")
        if self._live is None:
            self._console.print(text, soft_wrap=True)
            return
        self._lines.append(text)
        self._live.refresh()

    def _picture(self) -> Group:
        if self._stack is None:
            return Group(*self._lines)
        table = Table(title=f"Hasty on {self._stack.url}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("", "address", "pid", "restarts", "state"):
            table.add_column(heading)
        for child in self._stack.children.values():
            table.add_row(*_cells(child))
        return Group(table, Text(), *self._lines, *_countdown(self._stack))


async def watch(stack: Stack, view: View) -> NoReturn:
    """Ask every child now and then, and tell which one has stopped answering or answers again."""
    silent: dict[str, str] = {}
    while True:
        await asyncio.sleep(ASK_EVERY_S)
        asked = [child for child in stack.children.values() if child.state is State.READY]
        reasons = await asyncio.gather(*(child.answers() for child in asked))
        for child, reason in zip(asked, reasons, strict=True):
            if reason is None and silent.pop(child.name, None) is not None:
                view.tell(f"{child.name} is ready again")
            if reason is not None and child.name not in silent:
                silent[child.name] = reason
                view.tell(f"{child.name} {reason}")


def _countdown(stack: Stack) -> Iterator[Text]:
    """What the end waits for, and for how long at the most."""
    stopping = [child.name for child in stack.children.values() if child.state is State.STOPPING]
    if stopping and stack.stops_by is not None:
        left_s = max(0, math.ceil(stack.stops_by - time.monotonic()))
        yield Text(f"waiting up to {left_s} s for {', '.join(stopping)}", style="yellow")


def _cells(child: Child) -> tuple[Text, ...]:
    return (
        Text(child.name),
        Text(child.address),
        Text(str(child.pid or "")),
        Text(str(child.restarts or "")),
        Text(child.state.value, style=STYLES.get(child.state, "yellow")),
    )
