"""The client's connections: how effects are carried out with httpx2; `async_http` does so on an event loop."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from typing import TypedDict, TypeVar

import httpx2

import hasty
from hasty.client import shell
from hasty.client.effects import Answer, Call, Calls, Effect, NoAnswer, Open, Pause, Read, Reply, Request, Send
from hasty.client.urls import no_url

T = TypeVar("T")


class Arguments(TypedDict):
    """What httpx2's clients are made with."""

    base_url: str
    headers: Mapping[str, str]
    verify: ssl.SSLContext | bool
    limits: httpx2.Limits


def arguments(url: str, headers: Mapping[str, str] | None) -> Arguments:
    """Return what a client of this server is made with.

    Raises:
        ValueError: when the URL is none.
    """
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL:
        raise no_url(url) from None
    return {
        "base_url": url,
        "headers": {"user-agent": f"hasty-client/{hasty.__version__}", **(headers or {})},
        # Where none is checked, no certificates are loaded: that would take longer than the request.
        "verify": True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        # As many as nginx takes from one address.
        "limits": httpx2.Limits(max_connections=1_000, max_keepalive_connections=100),
    }


def built(http: httpx2.Client | httpx2.AsyncClient, request: Request) -> httpx2.Request:
    """Return a request as httpx2 sends it."""
    return http.build_request(
        request.method,
        request.path,
        content=request.body,
        headers=request.headers,
        params=request.query,
        timeout=httpx2.Timeout(request.timeout_s, connect=shell.CONNECT_S, pool=None),
    )


def reason_of(error: httpx2.TransportError) -> str:
    """Say how a request failed; some errors have no words of their own."""
    return str(error) or type(error).__name__


class HttpxConnection:
    """Carries calls out, and blocks meanwhile. Many threads can use it."""

    def __init__(self, url: str, headers: Mapping[str, str] | None) -> None:
        self._http = httpx2.Client(**arguments(url, headers))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def wire(self) -> shell.Wire:
        """Return what carries out the effects of one call."""
        return _Wire(self._http)

    def run(self, call: Call[T]) -> T:
        """Carry a call out, and return its value."""
        return shell.run(self.wire(), call)

    def each(self, calls: Calls[T]) -> Iterator[T]:
        """Carry a call out, and give its values one by one."""
        return shell.each(self.wire(), calls)


class _Wire:
    """What one call has open."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, effect: Effect) -> Reply:
        try:
            match effect:
                case Pause(seconds):
                    time.sleep(seconds)
                    return None
                case Send(request):
                    response = self._http.send(built(self._http, request))
                    return Answer(response.status_code, response.headers, response.content)
                case Open(request):
                    return self._open(request)
                case Read():
                    return next(self._chunks, b"")
        except httpx2.TransportError as error:
            return NoAnswer(reason_of(error))

    def _open(self, request: Request) -> Answer:
        self.close()
        self._response = response = self._http.send(built(self._http, request), stream=True)
        self._chunks = response.iter_bytes()
        body = b"" if response.is_success else response.read()
        return Answer(response.status_code, response.headers, body)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
