"""Which kind and which input a call means, and the input as JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from hasty.context import Context
from hasty.declare import DECLARED, Command
from hasty.errors import HandlerError

Handler: TypeAlias = Callable[..., Any] | Command

ContextLast: TypeAlias = (
    Callable[[Any, Context], Any]
    | Callable[[Any, Any, Context], Any]
    | Callable[[Any, Any, Any, Context], Any]
    | Callable[[Any, Any, Any, Any, Context], Any]
)
"""Handlers whose context is not the first parameter: type checkers cannot remove it, and do not check the values."""


def kind_of(handler: str | Handler) -> str:
    """Return the name of a kind: itself, or that of a handler.

    Raises:
        HandlerError: when it is no handler.
    """
    if isinstance(handler, str):
        return handler
    for one in reversed(DECLARED):
        if one.target is handler:
            return one.name
    raise HandlerError(f"{handler!r} is no handler: write @job above the function, or give the name of its kind")


def input_of(handler: str | Handler, args: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input that a call of a handler with these arguments is; its context is none of it.

    Raises:
        TypeError: when the handler does not take them, as when it is called itself.
    """
    if not isinstance(handler, str | Command):
        return _bound(handler, args, values)
    if args:
        raise TypeError("the values of an input have names: write name=value")
    return dict(values)


def _bound(function: Callable[..., Any], args: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(function, eval_str=True)
    taken = [each for each in signature.parameters.values() if each.annotation is not Context]
    return dict(signature.replace(parameters=taken).bind(*args, **values).arguments)


def as_json(value: Any) -> bytes:
    """Write JSON; what Python's own types do not cover (times, dataclasses, models) is written as pydantic writes it.

    Raises:
        TypeError, ValueError: when it cannot be written.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_jsonable)
    return text.encode()


def _jsonable(value: Any) -> Any:
    # Whoever has such values has loaded pydantic, or can wait for it.
    from pydantic_core import to_jsonable_python  # noqa: PLC0415

    return to_jsonable_python(value)
