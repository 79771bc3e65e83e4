"""Event streams: what changes, as server-sent events (WHATWG HTML, section 9.2)."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api_server.changes import Changes
from api_server.domain import JobRecord
from api_server.explanation import revision_of
from api_server.watch import Watch
from hasty.jobs import TERMINAL
from hasty.server.mongo import StoreUnavailable
from hasty.server.runtime.batching import Overloaded
from hasty.server.runtime.long_answer import GOES_ON, Rest

EVENT_STREAM: Final = "text/event-stream"
LOOK_EVERY_S: Final = 1.0
COMMENT_EVERY_S: Final = 5.0
"""An idle stream gets a comment so often: a proxy in between must not take it for dead."""

STREAMS_MAX: Final = 1_000
RETRY: Final = b"retry: 1000\n\n"
"""How a stream begins: in how many milliseconds a client comes back that was cut off."""

NEWS: Final = frozenset({"why"})
"""What changes with the time alone, and is no reason for an event."""

Events = AsyncGenerator[bytes]
Find = Callable[[str, str], Awaitable[JobRecord | None]]
Show = Callable[[JobRecord], bytes]


def event(data: bytes, *, name: str, event_id: int | None = None) -> bytes:
    """Write an event; `data` has no line breaks."""
    head = b"" if event_id is None else b"id: %d\n" % event_id
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)


class Streams:
    """The streams of one api-server: each looks once a second, and all of them share their look-ups."""

    def __init__(
        self, watch: Watch, changes: Changes, find: Find, show: Show, *, streams_max: int = STREAMS_MAX
    ) -> None:
        self._watch = watch
        self._changes = changes
        self._find = find
        self._show = show
        self._streams_max = streams_max
        self._open = 0

    def __len__(self) -> int:
        """How many are open."""
        return self._open

    def job(self, record: JobRecord, caller: str) -> StreamingResponse:
        """Stream a job: the whole of it now and at each change, to its outcome.

        Raises:
            Overloaded: when too many streams are open.
        """
        return self._response(self._job(record, caller))

    def jobs(self, wanted: Callable[[JobRecord], bool]) -> StreamingResponse:
        """Stream the jobs that are wanted: each when it is created, and when it has ended.

        Raises:
            Overloaded: when too many streams are open.
        """
        return self._response(self._jobs(wanted))

    def ticks(self, news: Callable[[], Awaitable[bytes]]) -> StreamingResponse:
        """Stream the events that `news` gives, once a second.

        Raises:
            Overloaded: when too many streams are open.
        """
        return self._response(self._ticks(news))

    def _response(self, events: Events) -> StreamingResponse:
        if self._open >= self._streams_max:
            raise Overloaded(f"{self._open} streams are open already")
        # From now on, not from its first event on: many may come at once.
        self._open += 1
        return _Stream(events, self._close)

    def _close(self) -> None:
        self._open -= 1

    async def _job(self, record: JobRecord, caller: str) -> Events:
        job_id, sent, revision, quiet_s = record.job.job_id, b"", 0, 0.0
        latest: JobRecord | None = record
        yield RETRY
        while latest is not None:
            shown = self._show(latest)
            if (seen := _hash_without_news(shown)) != sent:
                sent, quiet_s = seen, 0.0
                # It never goes back, whatever is read in which order.
                revision = max(revision, revision_of(latest.job))
                yield event(shown, name="job", event_id=revision)
            elif quiet_s >= COMMENT_EVERY_S:
                quiet_s = 0.0
                yield b":\n\n"
            if latest.job.status in TERMINAL or self._watch.closed:
                return
            await self._watch.pause(job_id, _until_next_look_s())
            quiet_s += LOOK_EVERY_S
            latest = await self._again(job_id, caller, latest)

    async def _again(self, job_id: str, caller: str, before: JobRecord) -> JobRecord | None:
        try:
            return await self._find(job_id, caller)
        except (StoreUnavailable, Overloaded):
            # What was sent stands until more is known.
            return before

    async def _jobs(self, wanted: Callable[[JobRecord], bool]) -> Events:
        quiet_s = 0.0
        yield RETRY
        with self._changes.followed() as follower:
            while not self._watch.closed:
                await follower.wait(LOOK_EVERY_S)
                quiet_s += LOOK_EVERY_S
                # One by one: what a client that reads slowly has not been sent stays with the follower.
                for change in follower.take():
                    if not wanted(change.record):
                        continue
                    quiet_s = 0.0
                    change.shown = change.shown or event(self._show(change.record), name="job")
                    yield change.shown
                if follower.take_dropped():
                    quiet_s = 0.0
                    yield event(b"{}", name="reload")
                if quiet_s >= COMMENT_EVERY_S:
                    quiet_s = 0.0
                    yield b":\n\n"

    async def _ticks(self, news: Callable[[], Awaitable[bytes]]) -> Events:
        yield RETRY
        while not self._watch.closed:
            try:
                yield await news()
            except StoreUnavailable:
                yield b":\n\n"
            await asyncio.sleep(LOOK_EVERY_S)


class _Stream(StreamingResponse):
    """A response that says when it is over, however it ends."""

    def __init__(self, events: Events, on_closed: Callable[[], None]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type=EVENT_STREAM, headers=headers)
        self._rest = Rest(events, on_closed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; where the connection can do that alone, nothing of the request is kept for it."""
        goes_on = False
        try:
            if GOES_ON in scope:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                scope[GOES_ON], goes_on = self._rest, True
            else:
                await super().__call__(scope, receive, send)
        finally:
            if not goes_on:
                self._rest.on_closed()


def _until_next_look_s() -> float:
    """Return how long to wait: all streams look at the same moments, and so with one query."""
    left_s = LOOK_EVERY_S - asyncio.get_running_loop().time() % LOOK_EVERY_S
    # A timer may fire a little early, and that moment is not to be looked at twice.
    return left_s if left_s > LOOK_EVERY_S / 10 else left_s + LOOK_EVERY_S


def _hash_without_news(shown: bytes) -> bytes:
    """Return what tells two versions of a job apart; the job itself may be long, and many are watched."""
    job = json.loads(shown)
    return hashlib.sha256(json.dumps({name: job[name] for name in job if name not in NEWS}).encode()).digest()
