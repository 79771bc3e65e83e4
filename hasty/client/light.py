"""The client of the command, which lives for one call: what it sends with must load sooner than httpx2."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import hasty
from hasty.client import shell
from hasty.client.blocking import Hasty
from hasty.client.effects import Answer, Call, Calls, Effect, NoAnswer, Open, Pause, Read, Reply, Request, Send

if TYPE_CHECKING:
    from hasty.client.http import HttpxConnection

T = TypeVar("T")

PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class LightHasty(Hasty):
    """A `Hasty` that loads httpx2 only for what needs it: TLS, a proxy, a login in the URL, a stream of events."""

    def _connect(self, url: str, headers: Mapping[str, str] | None) -> shell.Connection:
        return LightConnection(url, headers or {}) if direct(url) else super()._connect(url, headers)


def direct(url: str) -> bool:
    """Whether a server is reached by plain HTTP, without a proxy and without a login."""
    parts = urlsplit(url)
    # There, proxies are in the system's settings as well.
    settings = sys.platform in {"darwin", "win32"} and parts.hostname not in LOOPBACK
    proxied = settings or any(os.environ.get(name) for name in PROXIES)
    return parts.scheme == "http" and "@" not in parts.netloc and not proxied


class LightConnection:
    """Carries calls out, with a connection for each request."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._streaming: HttpxConnection | None = None

    def run(self, call: Call[T]) -> T:
        """Carry a call out, and return its value."""
        return shell.run(_Wire(self), call)

    def each(self, calls: Calls[T]) -> Iterator[T]:
        """Carry a call out, and give its values one by one."""
        return shell.each(_Wire(self), calls)

    def streaming(self) -> HttpxConnection:
        """Return what reads streams, loaded when there is the first of them."""
        if self._streaming is None:
            from hasty.client.http import HttpxConnection  # noqa: PLC0415 - see above

            self._streaming = HttpxConnection(self._url, self._headers)
        return self._streaming

    def send(self, request: Request) -> Answer | NoAnswer:
        """Send a request, and read its answer."""
        parts = urlsplit(self._url)
        query = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
        headers = {"user-agent": f"hasty-client/{hasty.__version__}", **self._headers, **request.headers}
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=shell.CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(request.timeout_s)
            connection.request(request.method, f"{parts.path}{request.path}{query}", request.body, headers)
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a header that cannot be sent
            return NoAnswer(str(error) or type(error).__name__)
        finally:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        if self._streaming is not None:
            self._streaming.close()


class _Wire:
    """What one call has open."""

    def __init__(self, connection: LightConnection) -> None:
        self._connection = connection
        self._stream: shell.Wire | None = None

    def perform(self, effect: Effect) -> Reply:
        match effect:
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case Send(request):
                return self._connection.send(request)
            case Open() | Read():
                self._stream = self._stream or self._connection.streaming().wire()
                return self._stream.perform(effect)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
