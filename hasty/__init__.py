"""Hasty: jobs of your own, each with exactly one outcome, whatever crashes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded by `__getattr__` when asked for
    from hasty.context import Context
    from hasty.declare import command, job
    from hasty.errors import Cancelled, Fail, HandlerError, Snooze
    from hasty.retry import Retry

__all__ = ["Cancelled", "Context", "Fail", "HandlerError", "Retry", "Snooze", "command", "job"]
__version__ = "0.2.0"

_MODULES = {
    "context": ("Context",),
    "declare": ("command", "job"),
    "errors": ("Cancelled", "Fail", "HandlerError", "Snooze"),
    "retry": ("Retry",),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: the command and the client need none of it, and start sooner."""
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module  # noqa: PLC0415 - only whoever asks for something needs it

            globals()[name] = found = getattr(import_module(f"hasty.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
