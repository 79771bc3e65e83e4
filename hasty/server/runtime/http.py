"""The HTTP server of a process: uvicorn in our own loop, under our own signals, which drains before it stops."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

from hasty.server.runtime.answer import Refuse, Shortcut, refusal
from hasty.server.runtime.fast_path import Config, Connection, Server
from hasty.server.runtime.probes import Receive, Scope, Send
from hasty.server.runtime.process import EXIT_FAILED, FatalExit

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

KEEP_ALIVE_S: Final = 75
"""Longer than nginx keeps an idle connection (60 s): the one who sends must be the one who closes."""

BACKLOG: Final = 4096


class _CloseOnShutdown:
    """Passes everything on to an application, and closes connections with their next answer once it is stopping."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.stopping:
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_and_close)


class HttpServer:
    """A running server; `stop` lets its clients finish."""

    def __init__(
        self, server: Server, task: asyncio.Task[None], listener: socket.socket, closing: _CloseOnShutdown
    ) -> None:
        self._server = server
        self._task = task
        self._listener = listener
        self._closing = closing
        self.port: int = listener.getsockname()[1]

    async def stop(self) -> None:
        """Accept no more connections, answer what was asked, and return when every connection is closed."""
        if self._server.started and not self._closing.stopping:
            self._closing.stopping = True
            # A listener that closes resets the connections in its queue, and a proxy that has sent a request on one of
            # them may not send it again. So the queue is emptied first, with no step of the loop in between.
            await self._server.stop_accepting(_accept_backlog(self._listener))
        self._server.should_exit = True
        await asyncio.wait([self._task])

    @classmethod
    @contextlib.asynccontextmanager
    async def running(  # long: uvicorn's settings, one a line
        cls,
        app: Asgi,
        *,
        host: str,
        port: int,
        drain_s: float,
        grace_s: float,
        drain_delay_s: float = 0,
        shortcut: Shortcut | None = None,
        refuse: Refuse = refusal,
    ) -> "AsyncIterator[HttpServer]":
        """Serve `app`; at the end, wait `drain_s` for idle clients to leave and `grace_s` for answers under way.

        Where the grace is short, draining takes half of it at most: the other half is for the answers. New connections
        are refused for `drain_delay_s` seconds at least. What `shortcut` takes never comes to `app`, and neither
        does what `refuse` answers, because it cannot be read as a request.

        Raises:
            FatalExit: with exit code 1, when the address cannot be had.
        """
        listener = _listen(host, port)
        closing = _CloseOnShutdown(app)
        config = Config(
            closing,
            loop="none",
            http=partial(Connection, shortcut, closing, refuse),  # type: ignore[arg-type]  # a class is what it makes
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
        server = Server(config, min(drain_s, grace_s / 2), drain_delay_s)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
        running = cls(server, task, listener, closing)
        try:
            yield running
        finally:
            await running.stop()


def _accept_backlog(listener: socket.socket) -> list[socket.socket]:
    """Accept the connections in the queue of a listener."""
    accepted = []
    for _ in range(BACKLOG):
        try:
            accepted.append(listener.accept()[0])
        except ConnectionAbortedError:
            continue
        except OSError:
            # The queue is empty, or no descriptor is left.
            break
    return accepted


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise FatalExit(
            EXIT_FAILED,
            f"cannot listen on {host}:{port} ({error.strerror}): set HASTY_BIND_HOST and HASTY_BIND_PORT to an address"
            " that is free here",
        ) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    return listener
