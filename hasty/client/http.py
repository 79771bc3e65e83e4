"""The client's connections: how effects are carried out with httpx2; `async_http` does so on an event loop."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final, TypedDict, TypeVar

import httpx2

import hasty
from hasty.client.effects import Answer, Call, Calls, Effect, Emit, NoAnswer, Open, Pause, Read, Reply, Request, Send

T = TypeVar("T")

URL_VARIABLE: Final = "HASTY_URL"
DEFAULT_URL: Final = "http://localhost:8080"
CONNECT_S: Final = 5.0


class Arguments(TypedDict):
    """What httpx2's clients are made with."""

    base_url: str
    headers: Mapping[str, str]
    verify: ssl.SSLContext | bool
    limits: httpx2.Limits


def server_url(url: str | None) -> str:
    """Return the server's URL: the given one, or that of the environment.

    Raises:
        ValueError: when it is no URL of HTTP.
    """
    found = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        parsed = httpx2.URL(found)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"{found!r} is no URL of Hasty: write it as in {DEFAULT_URL}")
    return found.rstrip("/")


def arguments(url: str, headers: Mapping[str, str] | None) -> Arguments:
    """Return what a client of this server is made with."""
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
        timeout=httpx2.Timeout(request.timeout_s, connect=CONNECT_S, pool=None),
    )


def reason_of(error: httpx2.TransportError) -> str:
    """Say how a request failed; some errors have no words of their own."""
    return str(error) or type(error).__name__


class Connection:
    """Carries calls out, and blocks meanwhile. Many threads can use it."""

    def __init__(self, url: str, headers: Mapping[str, str] | None) -> None:
        self._http = httpx2.Client(**arguments(url, headers))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def run(self, call: Call[T]) -> T:
        """Carry a call out, and return its value."""
        wire, reply = _Wire(self._http), None
        while True:
            try:
                effect = call.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            reply = wire.perform(effect)

    def each(self, calls: Calls[T]) -> Iterator[T]:
        """Carry a call out, and give its values one by one."""
        wire, reply = _Wire(self._http), None
        try:
            while (effect := next_effect(calls, reply)) is not None:
                reply = None
                if isinstance(effect, Emit):
                    yield effect.value
                else:
                    reply = wire.perform(effect)
        finally:
            wire.close()


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


def next_effect(calls: Generator[Effect | Emit[T], Any, None], reply: Reply) -> Effect | Emit[T] | None:
    """Return what a call wants next, None at its end."""
    try:
        return calls.send(reply)
    except StopIteration:
        return None
