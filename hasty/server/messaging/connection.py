"""One connection to NATS, which reconnects for ever by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import nats.errors

from hasty.server.messaging.client import FAILURES, Client
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

Hear = Callable[[bytes], bytes | Awaitable[bytes | None] | None]
"""Takes what was told; what it returns, now or later, is the answer to a request."""

CALL_TIMEOUT_S: Final = 3.0
"""The longest a call to the broker may take; a frozen broker must not block a caller for longer."""


class BrokerUnavailable(Exception):
    """The broker cannot be reached or did not answer in time; whether it acted is unknown."""


class Connection:
    """A connection that may be used at once and at any time: while the broker is away, calls raise `BrokerUnavailable`.

    Its callbacks never raise: an exception would kill nats-py's reader while the client believes to be connected.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self.servers = [server.strip() for server in url.split(",") if server.strip()]
        self.name = name
        self.client = Client()
        self.closed = asyncio.Event()
        self.last_error = "not connected yet"
        self.on_connected: list[Callable[[], None]] = []
        self.on_missing: list[Callable[[], None]] = []
        """Called when an answer suggests that the stream or a consumer does not exist."""
        self._connected = asyncio.Event()
        self._closing = False
        self._connected_once = False
        self.lost_ns = time.time_ns()
        """When a connection was last seen to be lost, or the first one asked for: nanoseconds since 1970."""
        self._lost_at = time.monotonic()
        self._answers: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str, *, name: str) -> AsyncIterator[Connection]:
        """Connect in the background and close at the end."""
        self = cls(url, name=name)
        connecting = asyncio.create_task(self._connect(), name=f"{name}: connect to NATS")
        try:
            yield self
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self._close()

    @property
    def connected(self) -> bool:
        """Whether the client believes to be connected; `ping` is the proof."""
        return self._connected.is_set() and self.client.is_connected

    @property
    def unreachable_s(self) -> float | None:
        """For how long there has been no connection; None while there is one."""
        return None if self.connected else time.monotonic() - self._lost_at

    @property
    def where(self) -> str:
        """The servers, without credentials, for messages."""
        return ", ".join(_without_credentials(server) for server in self.servers)

    async def until_connected(self) -> None:
        """Wait until there is a connection."""
        await self._connected.wait()

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Prove that the broker answers on this connection.

        Raises:
            BrokerUnavailable: when it does not within `timeout_s`.
        """
        _require_connection(self)
        try:
            async with asyncio.timeout(timeout_s):
                await self.client.rtt()
        except FAILURES as error:
            raise BrokerUnavailable(f"NATS at {self.where} does not answer within {timeout_s:g} s") from error

    async def request(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None, timeout_s: float = CALL_TIMEOUT_S
    ) -> bytes:
        """Send a request and return the answer's data.

        Raises:
            BrokerUnavailable: when there is no answer within `timeout_s`.
        """
        _require_connection(self)
        try:
            # The client's own timeout does not cover a write that blocks, as to a frozen server.
            async with asyncio.timeout(timeout_s):
                answer = await self.client.request(subject, body, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            report_missing(self)
            raise BrokerUnavailable(f"no answer to {subject}: is JetStream on, and does the stream exist?") from error
        except FAILURES as error:
            raise BrokerUnavailable(f"no answer to {subject} within {timeout_s:g} s") from error
        return answer.data

    async def write(self, lines: bytes) -> None:
        """Send complete protocol messages, without an answer.

        Raises:
            BrokerUnavailable: when they cannot be sent.
        """
        _require_connection(self)
        try:
            await self.client.write(lines)
        except FAILURES as error:
            raise BrokerUnavailable(f"could not send to NATS at {self.where}: {error}") from error

    async def publish_core(self, subject: str, body: bytes) -> None:
        """Publish to whoever listens now, without an answer; while the broker is away, to nobody."""
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if self.connected:
                    await self.client.publish(subject, body)

    async def listen(self, subject: str, hear: Hear) -> None:
        """Have what is told on a subject passed to `hear` from now on; what it returns is the answer to a request.

        The subscription survives reconnections. `hear` must not raise.

        Raises:
            BrokerUnavailable: when the subscription cannot be made.
        """
        await self.until_connected()

        def receive(_subject: str, reply: str, data: bytes, _headers: bytes | None) -> None:
            answer = hear(data)
            if answer is not None:
                task = asyncio.create_task(_answer(self, reply, answer), name=f"answer on {subject}")
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)

        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self.client.subscribe_direct(subject, receive)
        except FAILURES as error:
            raise BrokerUnavailable(f"could not subscribe to {subject}: {error}") from error

    async def api(self, subject: str, body: object = None) -> dict[str, Any]:
        """Ask JetStream's API; its error is in `error` of the answer."""
        raw = await self.request(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(raw)
        return answer

    async def _connect(self) -> None:
        user = urlsplit(self.servers[0]).username
        await self.client.connect(
            self.servers,
            name=self.name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
            closed_cb=self._on_closed,
            connect_timeout=2,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; a float works and is what is wanted
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            # Nothing is buffered while disconnected: a caller must learn at once that nothing was sent.
            pending_size=0,
            # What this process publishes it knows: it is for others.
            no_echo=True,
            # A user may subscribe to its own inboxes only, see docs/containers.md.
            inbox_prefix=f"_INBOX_{user}" if user else "_INBOX",
            # Subjects come from `topology` and from the broker.
            skip_subject_validation=True,
        )
        await self._on_connected()

    async def _close(self) -> None:
        self._closing = True
        if not self._connected_once:
            # The client cannot close what it never opened.
            return
        self._connected.clear()
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(2):
                if self.client.is_connected:
                    await self.client.flush(timeout=1)
                await self.client.close()

    async def _on_connected(self) -> None:
        self._connected_once = True
        self._connected.set()
        log.info("broker_connected", where=self.where)
        for call in self.on_connected:
            try:
                call()
            except Exception:
                log.exception("on_connected_failed")

    async def _on_disconnected(self) -> None:
        # Before anything arrives on the next connection.
        self.lost_ns = time.time_ns()
        if self._connected.is_set():
            self._lost_at = time.monotonic()
        self._connected.clear()
        if not self._closing:
            log.warning("broker_disconnected", where=self.where, reason=self.last_error)

    async def _on_closed(self) -> None:
        self._connected.clear()
        self.closed.set()

    async def _on_error(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        if "permissions violation" in self.last_error.lower():
            log.error("broker_refused", reason=self.last_error)
        else:
            log.debug("broker_error", reason=self.last_error)


async def _answer(connection: Connection, reply: str, answer: bytes | Awaitable[bytes | None]) -> None:
    data = answer if isinstance(answer, bytes) else await answer
    if reply and data is not None:
        await connection.publish_core(reply, data)


def report_missing(connection: Connection) -> None:
    """Call `on_missing` of a connection; what it calls must not raise."""
    for call in connection.on_missing:
        call()


def _require_connection(connection: Connection) -> None:
    if not connection.connected:
        raise BrokerUnavailable(f"not connected to NATS at {connection.where}: {connection.last_error}")


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 4222}"
