"""What a process shows to its operators: whether it lives, whether it is ready, and its numbers."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

CHECK_TIMEOUT_S = 2.0
# Answers are kept this long, so that no amount of probing becomes load on what is probed.
CACHE_S = 1.0
METRICS_TYPE = CONTENT_TYPE_LATEST
JSON_TYPE = "application/json"

# Returns None when all is well, otherwise why it is not; what it raises is a why as well.
Check = Callable[[], Awaitable[str | None]]
Answer = tuple[int, bytes]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def _count_tasks() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked from outside of the loop, where it is unknown
        return float("nan")


Gauge("hasty_tasks", "asyncio tasks alive").set_function(_count_tasks)


class Probes:
    """Answers /healthz, /readyz and /metrics from a set of named checks.

    A failing check makes the process unready (503), one that is named in `optional` only degraded (200).
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        optional: frozenset[str] = frozenset(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = dict(checks)
        self._optional = optional
        self._now = now
        self._lock = asyncio.Lock()
        self._checked_at = float("-inf")
        self._answer: Answer = (503, b"")

    async def healthz(self) -> Answer:
        """Status code and JSON: the loop runs; nothing outside of the process is touched."""
        return 200, _json({"status": "alive"})

    async def readyz(self) -> Answer:
        """Status code and JSON with the result of every check, each bounded by 2 s; at most 1 s old."""
        async with self._lock:
            if self._now() - self._checked_at >= CACHE_S:
                self._answer = await self._ask_all()
                self._checked_at = self._now()
            return self._answer

    def metrics(self) -> bytes:
        """All metrics of the process in Prometheus' text format; to be called in the loop's thread."""
        return generate_latest()

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """These answers as an ASGI application, for a process that serves nothing else."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._respond(scope, send)

    async def _respond(self, scope: Scope, send: Send) -> None:
        kind = JSON_TYPE
        more: list[tuple[bytes, bytes]] = []
        match scope["path"]:
            case _ if scope["method"] not in {"GET", "HEAD"}:
                status, body = 405, _json({"message": "method not allowed"})
                more = [(b"allow", b"GET, HEAD")]
            case "/healthz":
                status, body = await self.healthz()
            case "/readyz":
                status, body = await self.readyz()
            case "/metrics":
                kind, status, body = METRICS_TYPE, 200, self.metrics()
            case _:
                status, body = 404, _json({"message": "not found"})
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})  # to HEAD, the server sends none of it

    async def _ask_all(self) -> Answer:
        results = await asyncio.gather(*(_ask(check) for check in self._checks.values()))
        checks = dict(zip(self._checks, results, strict=True))
        failed = {name for name, result in checks.items() if result != "ok"}
        status = "ready" if not failed else "degraded" if failed <= self._optional else "unready"
        return 503 if status == "unready" else 200, _json({"status": status, "checks": checks})


async def _ask(check: Check) -> str:
    """The result of a check in words; a check that hangs or breaks has failed, and the probe answers all the same."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check() or "ok"
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 - whatever breaks a check is its result
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


async def _live(receive: Receive, send: Send) -> None:
    """Agree to the start and the end of the server, as the ASGI lifespan protocol asks."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
