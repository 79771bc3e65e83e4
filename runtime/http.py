"""The HTTP server of a process: uvicorn in our own loop, under our own signals, with a gentle end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.process import EXIT_FAILED, Leave

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from runtime.probes import Receive, Scope, Send

    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
    Reply = Callable[["Answer"], None]

KEEP_ALIVE_S: Final = 75
"""Longer than nginx keeps an idle connection (60 s): the one who sends must be the one who closes."""

BACKLOG: Final = 4096

BODY_MAX: Final = 64 * 1024
"""Bytes of the longest body of a request; nginx refuses longer ones as well."""

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_OUT_OF_THE_ORDINARY: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class Answer(NamedTuple):
    """What a caller is told: status code, headers beside the content's type and length, JSON."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Shortcut(Protocol):
    """Answers some requests straight from the connection: without ASGI, and without a task for each."""

    def takes(self, method: bytes, target: bytes) -> bool:
        """Whether a request is to be answered here."""
        ...

    def answer(self, method: bytes, target: bytes, body: bytes, reply: Reply) -> None:
        """Answer it by calling `reply` once, now or later; must not raise."""
        ...


class _Exchange:
    """A request that takes the shortcut, in the place of what uvicorn calls a cycle."""

    __slots__ = ("body", "disconnected", "keep_alive", "method", "response_complete", "target")

    # uvicorn sets it when a connection is lost; nobody waits for it here.
    message_event: ClassVar = asyncio.Event()

    def __init__(self, method: bytes, target: bytes) -> None:
        self.method = method
        self.target = target
        self.body = b""
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with a shortcut for ordinary requests.

    uvicorn makes a scope, a cycle, an event and a task for each request, and writes head and body of an answer
    separately: two system calls, and with uvloop two packets. Whatever is not ordinary, a body without a length or a
    second request before the first was answered, say, goes uvicorn's way.
    """

    def __init__(self, shortcut: Shortcut, goodbye: _Goodbye, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._shortcut = shortcut
        self._goodbye = goodbye

    def on_message_begin(self) -> None:
        """Begin a request: what uvicorn prepares is made only where it is needed."""
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide which way a request goes."""
        if self._is_ordinary():
            self.cycle = _Exchange(self.parser.get_method(), self.url)  # type: ignore[assignment]
            return
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _is_ordinary(self) -> bool:
        parser = self.parser
        method = parser.get_method()
        if not self._shortcut.takes(method, self.url):
            return False
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return False
        length = b"0" if method == b"GET" else b""
        for name, value in self.headers:
            name = name.lower()  # noqa: PLW2901 - as HTTP has it
            if name == b"content-length":
                length = value
            elif name in _OUT_OF_THE_ORDINARY:
                return False
        return (
            length.isdigit()
            and int(length) <= BODY_MAX
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if isinstance(self.cycle, _Exchange):
            self.cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Have a whole request answered."""
        exchange = self.cycle
        if isinstance(exchange, _Exchange):
            self._shortcut.answer(exchange.method, exchange.target, exchange.body, partial(self._reply, exchange))
        else:
            super().on_message_complete()

    def _reply(self, exchange: _Exchange, answer: Answer) -> None:
        if exchange.disconnected:
            return
        closing = self._goodbye.leaving or not exchange.keep_alive
        lines = [
            _STATUS_LINES[answer.status],
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer.body),
            *[f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers],
            b"connection: close\r\n\r\n" if closing else b"\r\n",
            answer.body,
        ]
        self.transport.write(b"".join(lines))
        exchange.response_complete = True
        if closing:
            self.transport.close()
        self.on_response_complete()


class _Server(uvicorn.Server):
    """Leaves signals to the process, and says goodbye to its clients before it goes.

    A proxy may send a request in the very moment in which an idle connection is closed, and may not repeat it. So the
    listener closes first; those who are connected get answers with `Connection: close` and go elsewhere; only then the
    idle connections that are left are closed.
    """

    def __init__(
        self, config: uvicorn.Config, app: _Goodbye, listener: socket.socket, goodbye_s: float, linger_s: float
    ) -> None:
        super().__init__(config)
        self._app = app
        self._listener = listener
        self._goodbye_s = goodbye_s
        self._linger_s = linger_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `runtime.process` owns the signals."""
        yield

    async def refuse_newcomers(self) -> None:
        """Close the listener, and serve everybody who came before.

        A listener that closes resets the connections that wait in its queue, and a proxy that has sent a request on
        one of them may not send it again. So the queue is emptied first, with no step of the loop in between.
        """
        self._app.leaving = True
        newcomers = _waiting(self._listener)
        for server in self.servers:
            server.close()

        def create_protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        for newcomer in newcomers:
            with contextlib.suppress(OSError):  # gone again
                await asyncio.get_running_loop().connect_accepted_socket(create_protocol, newcomer)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait until the clients have gone, at most `goodbye_s` seconds, and end.

        However soon they go, newcomers are refused for `linger_s` seconds.
        """
        loop = asyncio.get_running_loop()
        lingered = loop.time() + self._linger_s
        deadline = loop.time() + self._goodbye_s
        # uvicorn keeps its connections in a set and tells nobody when it is empty.
        while self.server_state.connections and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.sleep(max(0.0, lingered - loop.time()))
        await super().shutdown(sockets)


class _Goodbye:
    """Passes everything on, and closes connections with their next answer once the process is leaving."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.leaving:
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_and_close)


class HttpServer:
    """A running server; `stop` ends it gently."""

    def __init__(self, server: _Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self.port = port

    async def stop(self) -> None:
        """Take no more connections, answer what was asked, and return when everybody is gone."""
        if self._server.started:
            await self._server.refuse_newcomers()
        self._server.should_exit = True
        await asyncio.wait([self._task])

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        app: Asgi,
        *,
        host: str,
        port: int,
        goodbye_s: float,
        grace_s: float,
        linger_s: float = 0,
        shortcut: Shortcut | None = None,
    ) -> AsyncIterator[HttpServer]:
        """Serve `app`; at the end, wait `goodbye_s` for idle clients to go and `grace_s` for answers under way.

        New callers are refused for `linger_s` seconds at least. What `shortcut` takes never comes to `app`.

        Raises:
            Leave: with exit code 1, when the address cannot be had.
        """
        listener = _listen(host, port)
        goodbye = _Goodbye(app)
        config = uvicorn.Config(
            goodbye,
            loop="none",
            http="httptools" if shortcut is None else partial(_Connection, shortcut, goodbye),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            # nginx writes the access log.
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(grace_s)),
            backlog=BACKLOG,
        )
        server = _Server(config, goodbye, listener, goodbye_s, linger_s)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
        running = cls(server, task, listener.getsockname()[1])
        try:
            yield running
        finally:
            await running.stop()


def _waiting(listener: socket.socket) -> list[socket.socket]:
    """Accept who waits in the queue of a listener."""
    newcomers = []
    for _ in range(BACKLOG):
        try:
            newcomers.append(listener.accept()[0])
        except ConnectionAbortedError:
            continue
        except OSError:
            # Nobody is left, or no descriptor for anybody.
            break
    return newcomers


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Leave(
            EXIT_FAILED,
            f"cannot listen on {host}:{port} ({error.strerror}): set HASTY_BIND_HOST and HASTY_BIND_PORT to an address"
            " that is free here",
        ) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    return listener
