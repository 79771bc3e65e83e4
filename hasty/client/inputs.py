"""Which kind and which input a call means, and the input as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    # What declares handlers is loaded for handlers alone.
    from hasty.context import Context
    from hasty.declare import Command

    Handler: TypeAlias = Callable[..., Any] | Command

    ContextLast: TypeAlias = (
        Callable[[Any, Context], Any]
        | Callable[[Any, Any, Context], Any]
        | Callable[[Any, Any, Any, Context], Any]
        | Callable[[Any, Any, Any, Any, Context], Any]
    )
    # Handlers whose context is no first parameter: type checkers cannot take it away, so they do not check the values.


def kind_of(handler: str | Handler) -> str:
    """Return the name of a kind: itself, or that of a handler.

    Raises:
        HandlerError: when it is no handler.
    """
    if isinstance(handler, str):
        return handler
    from hasty.declare import DECLARED  # noqa: PLC0415 - see above
    from hasty.errors import HandlerError  # noqa: PLC0415 - likewise

    for one in reversed(DECLARED):
        if one.target is handler:
            return one.name
    raise HandlerError(f"{handler!r} is no handler: write @job above the function, or give the name of its kind")


def input_of(handler: str | Handler, args: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input that a call of a handler with these arguments is; its context is none of it.

    Raises:
        TypeError: when the handler does not take them, as when it is called itself.
    """
    if not isinstance(handler, str):
        from hasty.declare import Command  # noqa: PLC0415 - see above

        if not isinstance(handler, Command):
            return _bound(handler, args, values)
    if args:
        raise TypeError("the values of an input have names: write name=value")
    return dict(values)


def _bound(function: Callable[..., Any], args: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    import inspect  # noqa: PLC0415 - see above

    from hasty.context import Context  # noqa: PLC0415 - likewise

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
