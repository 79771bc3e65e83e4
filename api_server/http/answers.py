"""From results and errors to answers: what all dialects of the API do in the same way.

A dialect says in one table how it answers each kind of error; `contract` has the original's.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.answer import Answer, Respond, Shortcut
from hasty.server.runtime.batching import Overloaded
from hasty.server.runtime.fast_path import BODY_MAX
from hasty.server.runtime.logs import get_logger

T = TypeVar("T")

log = get_logger(__name__)

OVERLOAD_LOGGED_EVERY_S: Final = 1.0


class BodyTooLarge(Exception):
    """The body is longer than any request needs; the text says how long it may be."""


class Shortcuts:
    """Several shortcuts as one: the first one that takes a request answers it."""

    def __init__(self, *shortcuts: Shortcut) -> None:
        self._shortcuts = shortcuts

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Return what answers a request, if one of them does."""
        for shortcut in self._shortcuts:
            respond = shortcut.route(method, target)
            if respond is not None:
                return respond
        return None


def response_of(answer: Answer) -> Response:
    """Return an answer as the framework sends it."""
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


def caller_of(request: Request) -> str:
    """Return the address that a request came from, as nginx has it; empty when it did not come by nginx."""
    return request.headers.get("x-forwarded-for", "")


async def whole_body(request: Request, most: int = BODY_MAX) -> bytes:
    """Read a body of at most so many bytes.

    Raises:
        BodyTooLarge: when it is longer than any may be.
        ClientDisconnect: when the caller hangs up before its end.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BodyTooLarge(f"the body must have at most {most} bytes")
    return body


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work for a caller whose body was read, and stop when the caller hangs up.

    Raises:
        ClientDisconnect: when it does.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class ErrorTable:
    """How a dialect answers errors: a row for each kind, which also holds for its subclasses.

    The row of `Exception` answers every unexpected error, and must be there.
    """

    def __init__(self, rows: Mapping[type[Exception], Callable[[Any], Answer]]) -> None:
        self._rows = rows
        self._log = _ErrorLog()

    def __call__(self, error: Exception) -> Answer:
        """Answer an error, and log it unless it is the caller's own."""
        kind = next(kind for kind in type(error).__mro__ if kind in self._rows)
        self._log.note(error, expected=kind is not Exception)
        return self._rows[kind](error)

    def answer(self, ask: Callable[[], asyncio.Future[T]], show: Callable[[T], Answer]) -> asyncio.Future[Answer]:
        """Ask, and answer what comes of it: the result as `show` does, an error as the table does; never raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            asked = ask()
        except Exception as error:  # noqa: BLE001 - a request's outermost place
            answer.set_result(self(error))
        else:
            asked.add_done_callback(partial(self._pass_on, answer, show))
            if isinstance(asked, asyncio.Task):
                # It works for this caller alone, who may hang up.
                answer.add_done_callback(partial(_stop, asked))
        return answer

    def _pass_on(self, answer: asyncio.Future[Answer], show: Callable[[T], Answer], asked: asyncio.Future[T]) -> None:
        if asked.cancelled():
            answer.cancel()
        elif not answer.done():
            try:
                answer.set_result(show(asked.result()))
            except Exception as error:  # noqa: BLE001 - a request's outermost place
                answer.set_result(self(error))


def _stop(asked: asyncio.Task[Any], answer: asyncio.Future[Answer]) -> None:
    if answer.cancelled():
        asked.cancel()


class _ErrorLog:
    """Logs the errors that operators must see; an overload once a second, with the number of refused requests."""

    def __init__(self) -> None:
        self._refused = 0
        self._logged_at = float("-inf")

    def note(self, error: Exception, *, expected: bool) -> None:
        """Log an error, unless it is the caller's own."""
        if isinstance(error, Overloaded):
            self._note_overload(error)
        elif isinstance(error, StoreUnavailable):
            log.warning("store_unavailable", reason=str(error))
        elif not expected:
            log.error("defect", exc_info=error)

    def _note_overload(self, error: Overloaded) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= OVERLOAD_LOGGED_EVERY_S:
            log.warning("overloaded", refused=self._refused, reason=str(error))
            self._refused = 0
            self._logged_at = now
