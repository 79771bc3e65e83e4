"""What the person at the terminal sees."""

import io
import time
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from hasty.server.local_stack.part import State
from hasty.server.local_stack.stack import Stack
from hasty.server.local_stack.view import LINES, View

URL = "http://127.0.0.1:8080"


def a_stack(
    state: State = State.READY, stops_by: float | None = None, dashboard_url: str | None = f"{URL}/ui/"
) -> Stack:
    """A stack with one child, as far as a view looks at it."""
    child: Any = SimpleNamespace(name="nats", address="127.0.0.1:4222", pid=123, restarts=2, state=state)
    stack: Any = SimpleNamespace(url=URL, dashboard_url=dashboard_url, children={"nats": child}, stops_by=stops_by)
    return cast("Stack", stack)


def test_without_a_terminal_there_are_plain_lines() -> None:
    """One for each event, whole however long: something may read them."""
    output = io.StringIO()
    view = View(Console(file=output, width=40))
    with view.shown():
        view.show(a_stack())
        view.tell("nats is [bold] " + "very " * 20 + "well")
    first, second = output.getvalue().splitlines()
    assert first.endswith(f" Hasty answers on {URL}, its dashboard is at {URL}/ui/ (Ctrl-C ends it)")
    assert second.endswith("nats is [bold] " + "very " * 20 + "well")


def test_without_a_dashboard_none_is_named() -> None:
    """With HASTY_UI=off, `/ui/` would be not found."""
    output = io.StringIO()
    View(Console(file=output, width=200)).show(a_stack(dashboard_url=None))
    assert output.getvalue().endswith(f" Hasty answers on {URL} (Ctrl-C ends it)\n")


def test_terminal_shows_the_children_with_the_last_lines() -> None:
    """Short: a table, and no more lines than fit below it."""
    output = io.StringIO()
    view = View(Console(file=output, force_terminal=True, width=100, height=40))
    with view.shown():
        view.show(a_stack())
        for number in range(LINES + 3):
            view.tell(f"event {number}.")
        output.seek(0)
        output.truncate()
    last_picture = output.getvalue()
    for part in ("Hasty on http://127.0.0.1:8080", "nats", "127.0.0.1:4222", "123", "ready", f"event {LINES + 2}."):
        assert part in last_picture
    assert "event 2." not in last_picture


def test_terminal_shows_what_a_stop_waits_for() -> None:
    """By name, and how long until it is killed."""
    output = io.StringIO()
    view = View(Console(file=output, force_terminal=True, width=100, height=40))
    with view.shown():
        view.show(a_stack(State.STOPPING, time.monotonic() + 60))
    assert "waiting up to 60 s for nats" in output.getvalue()
