"""Waiting for facts: a test names what must become true and by when, never how long to sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import httpx
import psutil

T = TypeVar("T")

# A fact may be out of reach while a process starts or ends: that is 'not yet', and only at the deadline a failure.
_NOT_YET = (AssertionError, httpx.TransportError, OSError, psutil.NoSuchProcess)


@overload
async def eventually(fact: Callable[[], Awaitable[T]], *, within_s: float = 10.0, every_s: float = 0.05) -> T: ...
@overload
async def eventually(fact: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.05) -> T: ...
async def eventually(fact: Callable[[], Any], *, within_s: float = 10.0, every_s: float = 0.05) -> Any:
    """Ask for the fact until it is truthy and return it.

    Raises:
        AssertionError: it was not within `within_s` seconds; the message shows the last answer or the last error.
    """
    deadline = time.monotonic() + within_s
    while True:
        last: object
        try:
            answer = fact()
            value = await answer if inspect.isawaitable(answer) else answer
        except _NOT_YET as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within_s} s: {_described(fact)}; at last: {last!r}")
        await asyncio.sleep(every_s)


def _described(fact: Callable[..., object]) -> str:
    """The fact's source line says more than '<lambda>'."""
    try:
        return " ".join(inspect.getsource(fact).split())
    except OSError:
        return repr(fact)
