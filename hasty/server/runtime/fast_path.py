"""What answers ordinary requests straight from the connection, and all else here that needs uvicorn's inner names.

uvicorn makes a scope, a cycle, an event and a task for each request, and writes head and body of an answer separately:
two system calls, and with uvloop two packets. `Connection` answers what a `Shortcut` takes without any of that. What is
not ordinary, such as a body without a length or a second request before the first was answered, goes uvicorn's way.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

import httptools

from hasty.server.runtime.answer import Answer, Refuse, Respond, Shortcut, written
from hasty.server.runtime.lean import Empty, stand_in
from hasty.server.runtime.long_answer import GOES_ON, LongAnswer, Rest
from hasty.server.runtime.timers import IdleTimer

# uvicorn's package imports its command line, and with it click: 3 MB.
with stand_in("uvicorn.main", Empty("uvicorn.main")):
    from uvicorn import server as uvicorn_server
    from uvicorn.config import Config as Config  # noqa: PLC0414 - http.py gets it here: its own import would come first
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BODY_MAX: Final = 64 * 1024
"""Bytes of the longest body of a request; nginx refuses longer ones as well."""

HEADERS_MAX: Final = 100
HEAD_MAX: Final = 32 * 1024
"""Bytes of the longest request line with its headers, or a segment more: what a segment holds is read already."""

FRAMING_MAX: Final = 8 * BODY_MAX
"""Bytes that a body in chunks may have beside its content: their sizes, extensions and trailers."""

LAST_ANSWER_READ_WITHIN_S: Final = 2.0
"""How long a connection stays open to be read from after its last answer: closed at once, it would lose the answer to
a caller who is still sending."""

# A shortcut sees no headers, and the last of these changes what a request means.
_EVENT_STREAM: Final = b"text/event-stream"
PAGES_SEND: Final = (b"sec-fetch-site", b"origin")
"""Headers that only browsers send."""

BROWSER: Final = b"Mozilla/"
"""How a browser begins its `User-Agent`."""

# What a browser asks is checked on the long way.
_OUT_OF_THE_ORDINARY: Final = frozenset(
    {b"expect", b"transfer-encoding", b"upgrade", b"idempotency-key", b"last-event-id", *PAGES_SEND}
)
_SAYS_MORE: Final = _OUT_OF_THE_ORDINARY | {b"content-length", b"x-forwarded-for", b"accept", b"user-agent"}
# Where the parser is: between two requests, in the head of one, or behind it.
_BETWEEN: Final = 0
_IN_HEAD: Final = 1
_IN_BODY: Final = 2


class Closing(Protocol):
    """Says whether connections are to be closed with their next answer."""

    stopping: bool


_Unreadable = tuple[HTTPStatus, str]
_MALFORMED: Final = (HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")
_BROKEN_OFF: Final = (HTTPStatus.BAD_REQUEST, "the request broke off before it was complete")
_TOO_LARGE: Final = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the headers are too large: at most {HEADERS_MAX} of them and {HEAD_MAX} bytes in all",
)


class _TooLarge(Exception):
    """More headers than any request needs; raised through the parser, which hides it behind an error of its own."""


class _Exchange:
    """A request that takes the shortcut, in the place of what uvicorn calls a cycle."""

    __slots__ = (
        "answer",
        "body",
        "caller",
        "disconnected",
        "keep_alive",
        "respond",
        "response_complete",
        "waiting_for_100_continue",
    )

    # uvicorn sets it when a connection is lost; it is not awaited here.
    message_event: ClassVar = asyncio.Event()
    response_started: ClassVar = False

    def __init__(self, respond: Respond, caller: str) -> None:
        self.respond = respond
        self.caller = caller
        self.body = b""
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.answer: asyncio.Future[Answer] | None = None


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with a shortcut for ordinary requests, limits, and an end in order.

    When nothing more can be read, because the caller has closed its half, or sent what is no HTTP or too much of it,
    every request that was read is still answered in its order; then comes the last answer, if there is one, and the
    connection is closed. Nothing is written after that.
    """

    def __init__(self, shortcut: Shortcut | None, closing: Closing, refuse: Refuse, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._shortcut = shortcut
        self._closing = closing
        self._refuse = refuse
        self._place = _BETWEEN
        # Bytes of the segment that is being read, and of the request under way beside its body, from the request's
        # second segment on.
        self._segment = 0
        self._beside_body = 0
        # The cycle whose turn it is; `cycle` is the newest, and the pipeline holds those between.
        self._front: Any = None
        self._is_read = False
        self._half_closed = False
        self._last: Answer | None = None
        self._idle = IdleTimer(self.loop, self.timeout_keep_alive, self.timeout_keep_alive_handler)

    # -- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read a segment."""
        if self._is_read:
            return
        self._unset_keepalive_if_required()
        self._idle.stop()
        self._segment = len(data)
        self._beside_body += self._segment
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It is answered as if it had not asked; what follows may be of another protocol, and must not be taken for
            # a request.
            self.cycle.keep_alive = False
            self._finish_reading(None)
        except httptools.HttpParserError as error:
            self._finish_reading(_TOO_LARGE if isinstance(error.__context__, _TooLarge) else _MALFORMED)
        else:
            if self._place != _BETWEEN and self._beside_body > (HEAD_MAX if self._place == _IN_HEAD else FRAMING_MAX):
                self._finish_reading(_TOO_LARGE)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own protocol returns one
        """Keep the connection for the answers that are under way; False when there are none."""
        self._half_closed = True
        if not self._is_read:
            self._finish_reading(None if self._place == _BETWEEN else _BROKEN_OFF)
        return not (self._is_idle or self.transport.is_closing())

    def on_message_begin(self) -> None:
        """Begin a request: what uvicorn prepares is made only where it is needed."""
        self._place = _IN_HEAD
        self._beside_body = 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer."""
        if self._place == _IN_HEAD:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide which way a request goes."""
        # A head within one segment that is not long is not long either.
        if len(self.headers) > HEADERS_MAX or (
            (self._beside_body or self._segment > HEAD_MAX) and _head_length(self.url, self.headers) > HEAD_MAX
        ):
            raise _TooLarge
        exchange = self._exchange()
        if exchange is not None:
            self.cycle = self._front = exchange  # type: ignore[assignment]
        else:
            url, headers = self.url, self.headers
            super().on_message_begin()
            self.url = url
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()
        self._place = _IN_BODY

    def _exchange(self) -> _Exchange | None:
        """Begin the exchange of an ordinary request; None when it is not."""
        parser = self.parser
        method = parser.get_method()
        respond = None if self._shortcut is None else self._shortcut.route(method, self.url)
        if respond is None:
            return None
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return None
        length = b"0" if method == b"GET" else b""
        caller = b""
        for name, value in self.headers:
            name = name.lower()  # noqa: PLW2901 - as HTTP has it
            if name not in _SAYS_MORE:
                continue
            if name == b"content-length":
                length = value
            elif name == b"x-forwarded-for":
                caller = value
            elif (
                name in _OUT_OF_THE_ORDINARY
                or (name == b"accept" and _EVENT_STREAM in value)
                or (name == b"user-agent" and value.startswith(BROWSER))
            ):
                return None
        if (
            length.isdigit()
            and int(length) <= BODY_MAX
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        ):
            return _Exchange(respond, caller.decode("latin-1"))
        return None

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._beside_body -= len(body)
        if isinstance(self.cycle, _Exchange):
            self.cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Have a whole request answered."""
        self._place = _BETWEEN
        exchange = self.cycle
        if isinstance(exchange, _Exchange):
            exchange.answer = exchange.respond(exchange.body, exchange.caller)
            exchange.answer.add_done_callback(partial(self._reply, exchange))
        else:
            super().on_message_complete()

    # -- answering ----------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Have the application answer; if it leaves a rest of its answer, go on with that alone."""
        self._front = cycle

        async def answered(scope: Any, *calls: Any) -> None:
            if not cycle.more_body:
                scope[GOES_ON] = None
            await app(scope, *calls)
            rest: Rest | None = scope.pop(GOES_ON, None)
            if rest is None:
                return
            self._front = answer = LongAnswer(cycle)
            if self.cycle is cycle:
                self.cycle, self.scope, self.headers = answer, None, []  # type: ignore[assignment]
            writing = answer.begin(rest, self.on_response_complete)
            writing.add_done_callback(self.tasks.discard)
            self.tasks.add(writing)

        super()._start_asgi_task(cycle, answered)

    def _reply(self, exchange: _Exchange, answered: asyncio.Future[Answer]) -> None:
        if exchange.disconnected or self.transport.is_closing():
            return
        if answered.cancelled() or answered.exception():
            self.transport.close()
            return
        closing = self._closing.stopping or not exchange.keep_alive
        self.transport.write(written(answered.result(), closing=closing))
        exchange.response_complete = True
        if closing:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Go on with the request that waits longest; close the connection after the last one."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            # As uvicorn does, but for its timer for each request.
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._idle.start()
        if self._is_read and self._is_idle:
            self._close()

    # -- the end ------------------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection: requests under way are not answered any more."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._idle.close()
        self.pipeline.clear()
        if self._front is not None:
            _abandon(self._front)
            if isinstance(self._front, _Exchange | LongAnswer) and self._front.answer is not None:
                self._front.answer.cancel()

    def _finish_reading(self, unreadable: _Unreadable | None) -> None:
        """Read nothing more; the last answer is to what could not be read, whose target may be known in part."""
        self._is_read = True
        if unreadable is not None:
            self._last = self._refuse(*unreadable, self.url)
        if self._place == _IN_BODY:
            # The request that is not complete will not be: instead of its answer, the last one is given.
            if self.cycle is self._front:
                if self.cycle.response_started or self.cycle.response_complete:
                    self._last = None
                _abandon(self.cycle)
            else:
                self.pipeline.popleft()
                self.cycle = self._front
        if self._is_idle:
            self._close()

    @property
    def _is_idle(self) -> bool:
        front = self._front
        return not self.pipeline and (front is None or front.response_complete or front.disconnected)

    def _close(self) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._last is not None:
            transport.write(written(self._last, closing=True))
        if self._last is None or self._half_closed:
            transport.close()
            return
        transport.write_eof()
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self.loop.call_later(LAST_ANSWER_READ_WITHIN_S, self.timeout_keep_alive_handler)


def _head_length(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _abandon(cycle: Any) -> None:
    if not cycle.response_complete:
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()


class Server(uvicorn_server.Server):
    """uvicorn's server, which leaves signals to the process and gives its clients time to leave before it stops.

    A proxy may send a request in the very moment in which an idle connection is closed, and may not repeat it. So the
    listener closes first; those who are connected get answers with `Connection: close` and go elsewhere; only then the
    idle connections that are left are closed.
    """

    def __init__(self, config: Config, drain_s: float, drain_delay_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._drain_delay_s = drain_delay_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `hasty.server.runtime.process` owns the signals."""
        yield

    async def stop_accepting(self, accepted: Iterable[socket.socket]) -> None:
        """Close the listener, and serve the connections that were accepted from its queue before."""
        for server in self.servers:
            server.close()

        def create_protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        for connection in accepted:
            with contextlib.suppress(OSError):  # gone again
                await asyncio.get_running_loop().connect_accepted_socket(create_protocol, connection)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait until the clients have left, at most `drain_s` seconds, and stop.

        However soon they leave, new connections are refused for `drain_delay_s` seconds before.
        """
        loop = asyncio.get_running_loop()
        delayed_until = loop.time() + self._drain_delay_s
        deadline = loop.time() + self._drain_s
        # uvicorn keeps its connections in a set and gives no notice when it is empty.
        while self.server_state.connections and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.sleep(max(0.0, delayed_until - loop.time()))
        await super().shutdown(sockets)
