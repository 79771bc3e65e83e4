"""How a call's effects are carried out by a client that blocks, whatever it sends them with."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final, Protocol, TypeVar

from hasty.client.effects import Call, Calls, Effect, Emit, Reply

T = TypeVar("T")

CONNECT_S: Final = 5.0


class Wire(Protocol):
    """What one call has open."""

    def perform(self, effect: Effect) -> Reply:
        """Carry an effect out; no answer is a reply, too."""

    def close(self) -> None:
        """Close what is open."""


class Connection(Protocol):
    """Carries calls out. Many threads can use it."""

    def run(self, call: Call[T]) -> T:
        """Carry a call out, and return its value."""

    def each(self, calls: Calls[T]) -> Iterator[T]:
        """Carry a call out, and give its values one by one."""

    def close(self) -> None:
        """Close all connections."""


def run(wire: Wire, call: Call[T]) -> T:
    """Carry a call out, and return its value."""
    reply = None
    try:
        while True:
            try:
                effect = call.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            reply = wire.perform(effect)
    finally:
        wire.close()


def each(wire: Wire, calls: Calls[T]) -> Iterator[T]:
    """Carry a call out, and give its values one by one."""
    reply = None
    try:
        while (effect := next_effect(calls, reply)) is not None:
            reply = None
            if isinstance(effect, Emit):
                yield effect.value
            else:
                reply = wire.perform(effect)
    finally:
        wire.close()


def next_effect(calls: Generator[Effect | Emit[T], Any, None], reply: Reply) -> Effect | Emit[T] | None:
    """Return what a call wants next, None at its end."""
    try:
        return calls.send(reply)
    except StopIteration:
        return None
