"""What the client asks of the outside world: values, which a shell carries out.

A call is a generator that yields such values and is sent what came of them. It knows neither sockets nor clocks nor
threads, so one implementation serves the blocking and the asynchronous client, and tests need neither.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` begins behind the server's URL; `timeout_s` bounds the silence before and within the answer."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; the names of its headers are in lower case. A stream's body is read piece by piece instead."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request got no answer, or a stream broke; `reason` says how."""

    reason: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request: an `Answer` or `NoAnswer`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request whose answer is a stream, and close the stream before: an `Answer` or `NoAnswer`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Read what comes next of the open stream: bytes, none at its end, or `NoAnswer`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """Give a value to the caller, of which more may follow."""

    value: T


Reply: TypeAlias = Answer | NoAnswer | bytes | None
Effect: TypeAlias = Send | Open | Read | Pause
Call: TypeAlias = Generator[Effect, Reply, T]
"""A call that returns one value."""

Calls: TypeAlias = Generator[Effect | Emit[T], Any, None]
"""A call that gives any number of values, one by one."""
