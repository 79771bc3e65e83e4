"""An answer that goes on for long, such as an event stream, and what little is kept for it.

An application answers a request within a dozen coroutines, with the request's scope and headers: 20 KB for as long as
the answer lasts. Where the scope has `GOES_ON`, it can begin the answer, leave its `Rest` there, and return.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar, Final, NamedTuple

from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

GOES_ON: Final = "hasty.goes_on"


class Rest(NamedTuple):
    """The rest of an answer, chunk by chunk; `on_closed` is called when it is over, however it ends."""

    chunks: AsyncGenerator[bytes]
    on_closed: Callable[[], None]


class LongAnswer:
    """An answer that goes on, in the place of the cycle that began it; `answer` is the task that writes it."""

    __slots__ = (
        "_flow",
        "_transport",
        "answer",
        "disconnected",
        "keep_alive",
        "response_complete",
        "waiting_for_100_continue",
    )

    # uvicorn sets it when a connection is lost; it is not awaited here.
    message_event: ClassVar = asyncio.Event()
    response_started: ClassVar = True

    def __init__(self, cycle: Any) -> None:
        """Take over from uvicorn's cycle, which has nothing more to do."""
        self._transport = cycle.transport
        self._flow = cycle.flow
        self.keep_alive = cycle.keep_alive
        self.response_complete = False
        self.disconnected, cycle.disconnected = cycle.disconnected, True
        self.answer: asyncio.Task[None] | None = None

    def begin(self, rest: Rest, on_complete: Callable[[], None]) -> asyncio.Task[None]:
        """Begin to write the rest; `on_complete` is called behind its end."""
        self.answer = asyncio.create_task(self._write(rest.chunks, on_complete))
        # A caller may hang up before the task has had its first step.
        self.answer.add_done_callback(lambda _: rest.on_closed())
        return self.answer

    async def _write(self, rest: AsyncGenerator[bytes], on_complete: Callable[[], None]) -> None:
        """Write no faster than it is read, and the end, unless the caller hangs up before."""
        try:
            async with contextlib.aclosing(rest) as chunks:
                async for chunk in chunks:
                    if self._flow.write_paused:
                        await self._flow.drain()
                    if self.disconnected:
                        return
                    self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        except Exception:
            # Without its end, the caller knows that it is not whole.
            log.exception("defect")
            self._transport.close()
            return
        if self.disconnected:
            return
        self._transport.write(b"0\r\n\r\n")
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        on_complete()
