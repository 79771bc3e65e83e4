"""The connections of the asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

import httpx2

from hasty.client.effects import Answer, Call, Calls, Effect, Emit, NoAnswer, Open, Pause, Read, Reply, Request, Send
from hasty.client.http import arguments, built, reason_of
from hasty.client.shell import next_effect

T = TypeVar("T")


class AsyncConnection:
    """Carries calls out on an event loop. Many tasks can use it."""

    def __init__(self, url: str, headers: Mapping[str, str] | None) -> None:
        self._http = httpx2.AsyncClient(**arguments(url, headers))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def run(self, call: Call[T]) -> T:
        """Carry a call out, and return its value."""
        wire, reply = _AsyncWire(self._http), None
        while True:
            try:
                effect = call.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            reply = await wire.perform(effect)

    async def each(self, calls: Calls[T]) -> AsyncIterator[T]:
        """Carry a call out, and give its values one by one."""
        wire, reply = _AsyncWire(self._http), None
        try:
            while (effect := next_effect(calls, reply)) is not None:
                reply = None
                if isinstance(effect, Emit):
                    yield effect.value
                else:
                    reply = await wire.perform(effect)
        finally:
            await wire.close()


class _AsyncWire:
    """What one call has open."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._response: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, effect: Effect) -> Reply:
        try:
            match effect:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                    return None
                case Send(request):
                    response = await self._http.send(built(self._http, request))
                    return Answer(response.status_code, response.headers, response.content)
                case Open(request):
                    return await self._open(request)
                case Read():
                    return b"" if self._chunks is None else await anext(self._chunks, b"")
        except httpx2.TransportError as error:
            return NoAnswer(reason_of(error))

    async def _open(self, request: Request) -> Answer:
        await self.close()
        self._response = response = await self._http.send(built(self._http, request), stream=True)
        self._chunks = response.aiter_bytes()
        body = b"" if response.is_success else await response.aread()
        return Answer(response.status_code, response.headers, body)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
