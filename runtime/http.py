"""The HTTP server of a process: uvicorn in our own loop, under our own signals, with a gentle end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from runtime.process import EXIT_FAILED, Leave

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from runtime.probes import Receive, Scope, Send

    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

KEEP_ALIVE_S: Final = 75
"""Longer than nginx keeps an idle connection (60 s): the one who sends must be the one who closes."""

BACKLOG: Final = 4096


class _Server(uvicorn.Server):
    """Leaves signals to the process, and says goodbye to its clients before it goes.

    A proxy may send a request in the very moment in which an idle connection is closed, and may not repeat it. So the
    listener closes first; those who are connected get answers with `Connection: close` and go elsewhere; only then the
    idle connections that are left are closed.
    """

    def __init__(self, config: uvicorn.Config, app: _Goodbye, goodbye_s: float, linger_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._goodbye_s = goodbye_s
        self._linger_s = linger_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `runtime.process` owns the signals."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, wait until the clients have gone, at most `goodbye_s` seconds, and end.

        However soon they go, newcomers are refused for `linger_s` seconds.
        """
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        self._app.leaving = True
        loop = asyncio.get_running_loop()
        lingered = loop.time() + self._linger_s
        deadline = loop.time() + self._goodbye_s
        # uvicorn keeps its connections in a set and tells nobody when it is empty.
        while self.server_state.connections and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.sleep(max(0.0, lingered - loop.time()))
        await super().shutdown()


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
        self._server.should_exit = True
        await asyncio.wait([self._task])

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, app: Asgi, *, host: str, port: int, goodbye_s: float, grace_s: float, linger_s: float = 0
    ) -> AsyncIterator[HttpServer]:
        """Serve `app`; at the end, wait `goodbye_s` for idle clients to go and `grace_s` for answers under way.

        New callers are refused for `linger_s` seconds at least.

        Raises:
            Leave: with exit code 1, when the address cannot be had.
        """
        listener = _listen(host, port)
        goodbye = _Goodbye(app)
        config = uvicorn.Config(
            goodbye,
            loop="none",
            http="httptools",
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
        server = _Server(config, goodbye, goodbye_s, linger_s)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
        running = cls(server, task, listener.getsockname()[1])
        try:
            yield running
        finally:
            await running.stop()


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
