"""What a handler raises to say how its job goes on, and what is wrong with a handler.

Fail            no further attempt
Snooze          run it again later; no attempt is spent
Cancelled       raised by `ctx` when the job is to stop
HandlerError    a handler cannot be used as it is written; the text says why
"""

from __future__ import annotations


class Fail(Exception):
    """Raised by a handler: the job fails, and no further attempt is made; the text is kept as the error's message."""


class Snooze(Exception):
    """Raised by a handler: the job is run again after so many seconds, and no attempt is spent."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s:g} s")
        self.delay_s = delay_s


class Cancelled(BaseException):
    """Raised by `ctx` in a handler that is to stop: its job was cancelled, or its time is over.

    Not an `Exception`, as asyncio's own: a handler that catches all exceptions does not catch it.
    """


class HandlerError(Exception):
    """A handler cannot be used as it is written; the text says which, why, and what to do."""
