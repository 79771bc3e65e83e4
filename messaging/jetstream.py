"""The only use of NATS: connect, publish, consume with the acknowledgement ladder, watch the connection.

Errors:
    BrokerUnavailable: the broker cannot be reached, or did not answer in time; whether it acted is unknown.
    TopologyConflict: the stream or a consumer exists with a setting that cannot be changed in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from messaging.topology import DURABLES, STREAM, STREAM_CONFIG, Durable, consumer_config
from runtime.crash_points import crash_point
from runtime.logs import get_logger
from runtime.process import Leave

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from messaging.events import Outgoing

log = get_logger(__name__)

CALL_TIMEOUT_S: Final = 3.0
"""The longest a call to the broker may take; a frozen broker must not hold anybody up for longer."""

ATOMIC_BATCH_MAX: Final = 500
"""Messages in one atomic batch; the broker takes up to 1,000."""

SINGLES_AT_ONCE: Final = 256
PULL_EXPIRES_S: Final = 2.0
FIRST_PULL_EXPIRES_S: Final = 0.1
SILENT_PULLS: Final = 3
WATCHDOG_LEAVES_WITH: Final = 70
_NS: Final = 1_000_000_000
_ERR_DUPLICATE_IN_BATCH: Final = 10201
_NOT_FOUND: Final = 404
_LONG_ACK_TOKENS: Final = 11
_FIRST_WITH_ATOMIC_BATCHES: Final = (2, 12)


class BrokerUnavailable(Exception):
    """The broker cannot be reached or did not answer in time; whether it acted is unknown."""


class TopologyConflict(Exception):
    """The stream or a consumer differs from what Hasty needs in a way that cannot be changed in place."""


Direct = Callable[[str, str, bytes, "bytes | None"], None]
"""Gets a message's subject, reply subject, data and raw headers, if any; must not raise."""


class _Client(Client):
    """nats-py's client with a shorter way for what arrives and leaves in great numbers.

    A message for a `direct` subscription is handed over as it stands: no parsing of headers that nobody reads, no
    queue, no task. `write` sends protocol lines that were put together by their caller. Everything else, connections
    and their loss above all, stays nats-py's own. `tests/wire` holds these two to the real server.
    """

    def __init__(self) -> None:
        super().__init__()
        self.direct: dict[int, Direct] = {}

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self.direct.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            take(subject.decode(), reply.decode(), data, headers)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Who waited for this answer has given up. nats-py would set the result all the same, and its reader would
            # die of that while the client believes to be connected.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def write(self, lines: bytes) -> None:
        """Send complete protocol messages; raises what `publish` raises."""
        if not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        await self._send_command(lines)
        # As `publish` does: the flusher is woken once, for all that is written before it runs.
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()


@dataclass(slots=True)
class Delivery:
    """A message that waits for its acknowledgement; `attempt` counts its deliveries, from 1."""

    subject: str
    data: bytes
    reply: str
    attempt: int
    stream_sequence: int
    stored_ns: int
    """When the broker stored it, in nanoseconds since 1970."""
    message_id: str | None = None
    """Under which id it was published, if any."""

    @property
    def key(self) -> str:
        """What tells this message from any other that ever was, and is the same at each of its deliveries."""
        return f"{self.subject}:{self.stream_sequence}:{self.stored_ns}"


@dataclass(frozen=True, slots=True)
class StreamState:
    """Which stream there is: another `identity` means that everything published before is gone."""

    identity: str
    is_new: bool


class JetStream:
    """One connection to the broker, which reconnects for ever by itself.

    It may be used at once and at any time: while the broker is away, calls raise `BrokerUnavailable`.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._servers = [server.strip() for server in url.split(",") if server.strip()]
        self._name = name
        self._client = _Client()
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._closing = False
        self._connected_once = False
        self._singles = asyncio.Semaphore(SINGLES_AT_ONCE)
        self._batches = 0
        self._atomic_refused_until = 0.0
        self._last_error = "not connected yet"
        self.on_connected: list[Callable[[], None]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str, *, name: str) -> AsyncIterator[JetStream]:
        """Connect in the background and close at the end."""
        self = cls(url, name=name)
        connecting = asyncio.create_task(self._connect(), name=f"{name}: connect to NATS")
        try:
            yield self
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self._close()

    # -- the connection -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the client believes to be connected; `ping` is the proof."""
        return self._connected.is_set() and self._client.is_connected

    @property
    def where(self) -> str:
        """The servers, without credentials, for messages."""
        return ", ".join(_without_credentials(server) for server in self._servers)

    async def until_connected(self) -> None:
        """Wait until there is a connection."""
        await self._connected.wait()

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Prove that the broker answers on this connection.

        Raises:
            BrokerUnavailable: when it does not within `timeout_s`.
        """
        if not self.connected:
            raise BrokerUnavailable(f"not connected to NATS at {self.where}: {self._last_error}")
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.rtt()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BrokerUnavailable(f"NATS at {self.where} does not answer within {timeout_s:g} s") from error

    async def watch(self, silence_s: float) -> None:
        """Leave the process when the connection is beyond healing by itself.

        That is when the client is closed, or when for `silence_s` seconds nothing came over it although the broker
        greets newcomers. A broker that is away or frozen is no reason to leave: HTTP goes on, and so does the waiting.

        Raises:
            Leave: with exit code 70.
        """
        silent_for = 0.0
        step = min(2.0, silence_s / 4)
        while True:
            try:
                async with asyncio.timeout(step):
                    await self._closed.wait()
                raise Leave(WATCHDOG_LEAVES_WITH, f"the NATS client was closed: {self._last_error}")
            except TimeoutError:
                pass
            try:
                await self.ping(step)
                silent_for = 0.0
                continue
            except BrokerUnavailable:
                silent_for += step
            if silent_for >= silence_s:
                if await self._greets_newcomers():
                    raise Leave(
                        WATCHDOG_LEAVES_WITH,
                        f"the connection to NATS at {self.where} was silent for {silent_for:.0f} s although the broker"
                        " answers others",
                    )
                log.warning("broker_away", where=self.where, for_s=round(silent_for), reason=self._last_error)
                silent_for = 0.0

    async def close_client(self) -> None:
        """Close the NATS client under the process; only tests of the watchdog do this."""
        await self._client.close()

    async def _connect(self) -> None:
        user = urlsplit(self._servers[0]).username
        await self._client.connect(
            self._servers,
            name=self._name,
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
        with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
            async with asyncio.timeout(2):
                if self._client.is_connected:
                    await self._client.flush(timeout=1)
                await self._client.close()

    # Callbacks must never raise: an exception kills the client's reader while it believes to be connected.

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
        self._connected.clear()
        if not self._closing:
            log.warning("broker_disconnected", where=self.where, reason=self._last_error)

    async def _on_closed(self) -> None:
        self._connected.clear()
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        if "permissions violation" in self._last_error.lower():
            log.error("broker_refused", reason=self._last_error)
        else:
            log.debug("broker_error", reason=self._last_error)

    async def _greets_newcomers(self) -> bool:
        for server in self._servers:
            address = urlsplit(server)
            try:
                async with asyncio.timeout(2):
                    reader, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
                    try:
                        if (await reader.readline()).startswith(b"INFO "):
                            return True
                    finally:
                        writer.close()
            except (TimeoutError, OSError):
                continue
        return False

    # -- asking ---------------------------------------------------------------------------------------------------

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None, timeout_s: float = CALL_TIMEOUT_S
    ) -> bytes:
        if not self.connected:
            raise BrokerUnavailable(f"not connected to NATS at {self.where}: {self._last_error}")
        try:
            # The client's own timeout does not cover a write that blocks, as to a frozen server.
            async with asyncio.timeout(timeout_s):
                answer = await self._client.request(subject, body, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise BrokerUnavailable(f"nobody answers {subject}: is JetStream on, and does the stream exist?") from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BrokerUnavailable(f"no answer to {subject} within {timeout_s:g} s") from error
        return answer.data

    async def _write(self, lines: bytes) -> None:
        if not self.connected:
            raise BrokerUnavailable(f"not connected to NATS at {self.where}: {self._last_error}")
        try:
            await self._client.write(lines)
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailable(f"could not send to NATS at {self.where}: {error}") from error

    async def _api(self, subject: str, body: object = None) -> dict[str, Any]:
        """Ask JetStream's API; its error stands in `error` of the answer."""
        raw = await self._request(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(raw)
        return answer

    # -- publishing -----------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        """Publish messages, together where possible; True for each that the stream holds for certain.

        A False means unknown: it may be there. A message whose id the stream knows already counts as held.
        """
        results: list[bool] = []
        for start in range(0, len(messages), ATOMIC_BATCH_MAX):
            chunk = messages[start : start + ATOMIC_BATCH_MAX]
            results += await self._publish_chunk(chunk)
        return results

    async def _publish_chunk(self, chunk: Sequence[Outgoing]) -> list[bool]:
        if len(chunk) == 1 or not self._takes_atomic_batches():
            return await self._publish_singly(chunk)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                error = await self._publish_atomically(chunk)
        except (BrokerUnavailable, TimeoutError):
            return [False] * len(chunk)
        if error is None:
            return [True] * len(chunk)
        # A refused batch stored nothing. One known id refuses the whole, so the others go singly.
        if error.get("err_code") != _ERR_DUPLICATE_IN_BATCH:
            log.warning("atomic_batch_refused", reason=error.get("description"), code=error.get("err_code"))
            self._atomic_refused_until = asyncio.get_running_loop().time() + 60
        return await self._publish_singly(chunk)

    def _takes_atomic_batches(self) -> bool:
        if asyncio.get_running_loop().time() < self._atomic_refused_until or not self.connected:
            return False
        version = self._client.connected_server_version
        return (version.major, version.minor) >= _FIRST_WITH_ATOMIC_BATCHES

    async def _publish_atomically(self, chunk: Sequence[Outgoing]) -> dict[str, Any] | None:
        """Publish a batch that is stored as a whole or not at all; the broker's error, or None."""
        self._batches += 1
        batch = b"%s-%x-%d" % (self._name.encode().replace(b" ", b"-"), id(self), self._batches)
        batch += b"-%d" % self._client.client_id if self._client.client_id else b""
        *others, last = chunk
        lines = bytearray()
        for number, message in enumerate(others, start=1):
            head = b"NATS/1.0\r\nNats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n" % (batch, number)
            if message.message_id is not None:
                head += b"Nats-Msg-Id: %b\r\n" % message.message_id.encode()
            head += b"\r\n"
            lines += b"HPUB %b %d %d\r\n" % (message.subject.encode(), len(head), len(head) + len(message.body))
            lines += head + message.body + b"\r\n"
        await self._write(bytes(lines))
        crash_point("publish.mid_batch")
        headers = {
            "Nats-Batch-Id": batch.decode(),
            "Nats-Batch-Sequence": str(len(chunk)),
            "Nats-Batch-Commit": "1",
        }
        if last.message_id is not None:
            headers["Nats-Msg-Id"] = last.message_id
        answer = json.loads(await self._request(last.subject, last.body, headers))
        error: dict[str, Any] | None = answer.get("error")
        return error

    async def _publish_singly(self, chunk: Sequence[Outgoing]) -> list[bool]:
        return list(await asyncio.gather(*(self._publish_one(message) for message in chunk)))

    async def _publish_one(self, message: Outgoing) -> bool:
        headers = None if message.message_id is None else {"Nats-Msg-Id": message.message_id}
        async with self._singles:
            try:
                answer = json.loads(await self._request(message.subject, message.body, headers))
            except BrokerUnavailable as error:
                log.debug("publish_unknown", subject=message.subject, reason=str(error))
                return False
        if "error" in answer:
            log.warning("publish_refused", subject=message.subject, reason=answer["error"].get("description"))
            return False
        return True

    # -- the acknowledgement ladder -------------------------------------------------------------------------------

    async def ack(self, deliveries: Sequence[Delivery]) -> bool:
        """Acknowledge finished work; True when the broker has confirmed it.

        A consumer takes its acknowledgements in order, so the confirmation of the last one covers all.
        """
        if not deliveries:
            return True
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if len(deliveries) > 1:
                    await self._write(_publications(deliveries[:-1], b"+ACK"))
                await self._request(deliveries[-1].reply, b"+ACK")
        except (BrokerUnavailable, TimeoutError) as error:
            log.debug("ack_unknown", count=len(deliveries), reason=str(error))
            return False
        return True

    async def nak(self, deliveries: Sequence[Delivery], delay_s: float = 0.0) -> None:
        """Hand messages back, to be delivered again after `delay_s` seconds."""
        body = b"-NAK" if delay_s <= 0 else b'-NAK {"delay": %d}' % int(delay_s * _NS)
        await self._answer(deliveries, body)

    async def term(self, deliveries: Sequence[Delivery]) -> None:
        """Never have these messages delivered again: they are set aside."""
        await self._answer(deliveries, b"+TERM")

    async def in_progress(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are still being worked on, which restarts their acknowledgement wait."""
        await self._answer(deliveries, b"+WPI")

    async def _answer(self, deliveries: Sequence[Delivery], body: bytes) -> None:
        if not deliveries:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._write(_publications(deliveries, body))
        except (BrokerUnavailable, TimeoutError) as error:
            # Then the broker delivers them again after the acknowledgement wait.
            log.debug("answer_not_sent", answer=body[:5].decode(), count=len(deliveries), reason=str(error))

    def consumer(self, durable: Durable, *, room: Callable[[], int]) -> PullConsumer:
        """Consume a durable; `room` says how many messages may be taken now."""
        return PullConsumer(self, durable, room=room)

    # -- the topology ---------------------------------------------------------------------------------------------

    async def ensure(self, ack_wait_s: float) -> StreamState:
        """Make the stream and its consumers as `topology` describes them; safe to repeat, and by several at once.

        Returns:
            The stream's identity, and whether it was made just now.

        Raises:
            BrokerUnavailable: when the broker does not answer.
            TopologyConflict: when a difference cannot be changed in place; the text names it.
        """
        state = await self._ensure_stream()
        for durable in DURABLES:
            await self._ensure_consumer(durable, ack_wait_s)
        return state

    async def _ensure_stream(self) -> StreamState:
        info = await self._api(f"STREAM.INFO.{STREAM}")
        have = {} if _missing(info) else info["config"]
        difference = _difference(STREAM_CONFIG, have)
        if difference:
            info = await self._api(f"STREAM.{'UPDATE' if have else 'CREATE'}.{STREAM}", STREAM_CONFIG)
            _raise_conflict(f"stream {STREAM}", difference, info)
            log.info("stream_updated" if have else "stream_created", stream=STREAM, difference=difference)
        return StreamState(identity=str(info["created"]), is_new=not have)

    async def _ensure_consumer(self, durable: Durable, ack_wait_s: float) -> None:
        config = consumer_config(durable, ack_wait_s)
        wanted = {"stream_name": STREAM, "config": config}
        target = f"{STREAM}.{durable.name}"
        info = await self._api(f"CONSUMER.INFO.{target}")
        have = {} if _missing(info) else info["config"]
        difference = _difference(config, have)
        if not difference:
            return
        answer = await self._api(f"CONSUMER.CREATE.{target}.{durable.subject}", wanted)
        _raise_conflict(f"consumer {durable.name}", difference, answer)
        log.info("consumer_updated" if have else "consumer_created", consumer=durable.name, difference=difference)


class PullConsumer:
    """Takes messages from a durable consumer, as many as there is room for, with one long-lived inbox.

    One pull is open at a time. It is never cancelled: a cancelled pull would swallow messages. It ends when it is
    filled or when it expires, within two seconds, and its inbox lives through reconnects, so that whatever the broker
    still sends arrives.
    """

    def __init__(self, stream: JetStream, durable: Durable, *, room: Callable[[], int]) -> None:
        self._stream = stream
        self._durable = durable
        self._room = room
        self._buffer: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pull = 0
        self._open = 0
        self._open_until = 0.0
        self._silent = 0
        self._missing = 0
        self._last_answer = float("-inf")
        self._subscription: Any = None
        self._inbox = ""

    @property
    def buffered(self) -> int:
        """Messages that have arrived but were not taken by `batches` yet."""
        return len(self._buffer)

    @property
    def consuming(self) -> bool:
        """Whether the broker has answered a pull of this consumer lately."""
        return asyncio.get_running_loop().time() - self._last_answer < 2 * PULL_EXPIRES_S + 1

    def wake(self) -> None:
        """Say that there may be room again."""
        if not self._open:
            self._wake.set()

    def stop(self) -> None:
        """Open no more pulls; `batches` ends when the open one has, within two seconds."""
        self._stopping = True
        self._wake.set()

    async def batches(self) -> AsyncIterator[list[Delivery]]:
        """Yield what has arrived, at least one message at a time, until `stop`; in the order of delivery."""
        self._stream.on_connected.append(self._reconnected)
        try:
            while True:
                if not self._open and not self._stopping:
                    await self._open_pull()
                if self._buffer:
                    batch = list(self._buffer)
                    self._buffer.clear()
                    yield batch
                    continue
                if self._stopping and not self._open:
                    return
                await self._wait()
        finally:
            self._stream.on_connected.remove(self._reconnected)
            await self._unsubscribe()

    async def run(
        self,
        handle: Callable[[Sequence[Delivery]], Awaitable[None]],
        give_up: Callable[[Delivery, str], Awaitable[None]],
    ) -> None:
        """Hand every batch to `handle` until `stop`.

        A batch on which `handle` breaks is tried again message by message, and what it breaks on alone is given up:
        a message that nobody foresaw must stop neither the others nor the process, at none of its deliveries.
        """
        async for batch in self.batches():
            try:
                await handle(batch)
            except Exception:
                log.exception("batch_broke", consumer=self._durable.name, size=len(batch))
                for delivery in batch:
                    await self._alone(delivery, handle, give_up)

    async def _alone(
        self,
        delivery: Delivery,
        handle: Callable[[Sequence[Delivery]], Awaitable[None]],
        give_up: Callable[[Delivery, str], Awaitable[None]],
    ) -> None:
        try:
            await handle([delivery])
        except Exception as error:
            log.exception("message_broke", consumer=self._durable.name, sequence=delivery.stream_sequence)
            try:
                await give_up(delivery, f"{type(error).__name__}: {error}")
            except Exception:
                # It is delivered again after the acknowledgement wait.
                log.exception("message_not_given_up", sequence=delivery.stream_sequence)

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        patience = self._open_until - now if self._open else PULL_EXPIRES_S
        self._wake.clear()
        try:
            async with asyncio.timeout(max(patience, 0.01)):
                await self._wake.wait()
        except TimeoutError:
            if self._open:
                await self._note_silence()

    async def _open_pull(self) -> None:
        wanted = self._room()
        if wanted <= 0 or not self._stream.connected:
            return
        if self._missing and not await self._back_off():
            return
        # The first pull, and the first after a refusal, is short: it tells soon whether there is anybody to ask.
        expires_s = PULL_EXPIRES_S if self.consuming else FIRST_PULL_EXPIRES_S
        try:
            await self._subscribe()
            self._pull += 1
            self._open = wanted
            self._open_until = asyncio.get_running_loop().time() + expires_s + 1
            body = b'{"batch":%d,"expires":%d}' % (wanted, int(expires_s * _NS))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._stream._client.publish(  # noqa: SLF001 - the same module, the same connection
                    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._durable.name}",
                    body,
                    reply=f"{self._inbox}.{self._pull}",
                )
        except (BrokerUnavailable, TimeoutError, nats.errors.Error, OSError) as error:
            self._open = 0
            self._missing += 1
            log.debug("pull_not_sent", consumer=self._durable.name, reason=str(error))

    async def _back_off(self) -> bool:
        """Wait after refused pulls, longer each time, lest the loop burn a core; False when stopped meanwhile."""
        pause = min(0.05 * 2 ** min(self._missing, 10), 1.0)
        self._wake.clear()
        try:
            async with asyncio.timeout(pause):
                while not self._stopping and not self._buffer:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass
        return not self._stopping and not self._buffer

    async def _note_silence(self) -> None:
        """A pull always ends with an answer, unless something between here and the consumer is broken."""
        self._open = 0
        self._silent += 1
        if self._silent >= SILENT_PULLS and self._stream.connected:
            log.warning("consumer_silent", consumer=self._durable.name, pulls=self._silent)
            self._silent = 0
            await self._unsubscribe()

    async def _subscribe(self) -> None:
        if self._subscription is None:
            client = self._stream._client  # noqa: SLF001 - the same module, the same connection
            self._inbox = client.new_inbox()
            async with asyncio.timeout(CALL_TIMEOUT_S):
                self._subscription = await client.subscribe(f"{self._inbox}.*")
                client.direct[self._subscription._id] = self._on_message  # noqa: SLF001 - the same id in both maps

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._stream._client.direct.pop(subscription._id, None)  # noqa: SLF001 - as in `_subscribe`
            with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
                async with asyncio.timeout(1):
                    await subscription.unsubscribe()

    def _reconnected(self) -> None:
        # The broker has forgotten the pull with the connection; its messages, if any, still arrive.
        self._open = 0
        self._missing = 0
        self._wake.set()

    def _on_message(self, subject: str, reply: str, data: bytes, headers: bytes | None) -> None:
        """Never raises: see the callbacks of `JetStream`."""
        self._last_answer = asyncio.get_running_loop().time()
        self._silent = 0
        if reply.startswith("$JS.ACK."):
            self._missing = 0
            self._open = max(self._open - 1, 0)
            self._buffer.append(_delivery(subject, reply, data, headers))
            self._wake.set()
        elif subject == f"{self._inbox}.{self._pull}":
            self._end_pull((headers or b"").split(b"\r\n", 1)[0].decode("utf-8", "replace"))

    def _end_pull(self, status_line: str) -> None:
        # "NATS/1.0 408 Request Timeout", as HTTP has it.
        _, _, answer = status_line.partition(" ")
        status, _, reason = answer.partition(" ")
        if status == "100":
            return
        if status in {"404", "408"}:
            self._missing = 0
        else:
            # No such consumer (503), or it was deleted or moved under the pull (409).
            self._missing += 1
            self._last_answer = float("-inf")
            if self._missing == 1:
                log.info(
                    "pull_refused", consumer=self._durable.name, status=status, reason=reason or "no such consumer"
                )
        self._open = 0
        self._wake.set()


def _publications(deliveries: Sequence[Delivery], body: bytes) -> bytes:
    """The same short answer to many deliveries, as protocol lines."""
    tail = b" %d\r\n%b\r\n" % (len(body), body)
    return b"".join([b"PUB %b%b" % (delivery.reply.encode(), tail) for delivery in deliveries])


def _delivery(subject: str, reply: str, data: bytes, headers: bytes | None) -> Delivery:
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or the long form with
    # domain and account before the stream.
    tokens = reply.split(".")
    first = 4 if len(tokens) < _LONG_ACK_TOKENS else 6
    return Delivery(
        subject,
        data,
        reply,
        attempt=int(tokens[first]),
        stream_sequence=int(tokens[first + 1]),
        stored_ns=int(tokens[first + 3]),
        message_id=_message_id(headers),
    )


def _message_id(headers: bytes | None) -> str | None:
    if headers is None:
        return None
    _, found, rest = headers.partition(b"\r\nNats-Msg-Id:")
    return rest.split(b"\r\n", 1)[0].strip().decode("utf-8", "replace") if found else None


def _missing(info: dict[str, Any]) -> bool:
    error = info.get("error")
    if error is None:
        return False
    if error.get("code") == _NOT_FOUND:
        return True
    raise BrokerUnavailable(f"JetStream says: {error.get('description')}")


def _difference(wanted: dict[str, object], have: dict[str, Any]) -> dict[str, str]:
    """What differs from what is wanted, by name, as text."""
    if not have:
        return {"exists": "no -> yes"}
    return {
        key: f"{have.get(key)!r} -> {value!r}"
        for key, value in wanted.items()
        if (sorted(value) if isinstance(value, list) else value)
        != (sorted(have[key]) if isinstance(have.get(key), list) else have.get(key))
    }


def _raise_conflict(what: str, difference: dict[str, str], answer: dict[str, Any]) -> None:
    if "error" in answer:
        changes = ", ".join(f"{key} {change}" for key, change in difference.items())
        reason = answer["error"].get("description")
        code = answer["error"].get("code", 0)
        # Not found: what was looked at a moment ago was deleted meanwhile, so the next look will make it anew.
        if code == _NOT_FOUND or (code >= 500 and "exists" in difference):  # noqa: PLR2004 - HTTP's server errors
            raise BrokerUnavailable(f"JetStream could not make the {what}: {reason}")
        raise TopologyConflict(
            f"the {what} cannot be changed in place ({changes}): {reason}. Rename or delete it, or undo the setting."
        )


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 4222}"
