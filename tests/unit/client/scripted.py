"""A server that is a list of replies, and a clock that moves only when the client pauses."""

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from hasty.client.calls import V1, Options
from hasty.client.effects import Answer, Effect, Emit, NoAnswer, Open, Pause, Reply, Request, Send
from hasty.client.exchange import RetryPolicy

JOB_ID = "01a21cd1-0000-7000-8000-000000000001"
REFUSED = NoAnswer("connection refused")


def job(status: str = "processing", **more: Any) -> dict[str, Any]:
    """A job, as `/v1` shows it."""
    nulls = ("key", "phase", "input", "output", "error", "progress", "due_at", "started_at", "ended_at", "worker")
    shown: dict[str, Any] = dict.fromkeys((*nulls, "version", "batch", "retry_of"))
    shown |= {"id": JOB_ID, "kind": "greet", "status": status, "attempt": 1, "attempts": 3, "labels": ["a"]}
    return {**shown, "created_at": "2026-11-28T19:00:00.125Z", "revision": 1, "why": "because", **more}


def answer(document: object, status: int = 200, **headers: str) -> Answer:
    """An answer of Hasty's."""
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(document).encode()
    )


def problem(status: int, name: str, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    """A refusal of Hasty's."""
    document = {"type": f"urn:hasty:problem:{name}", "title": "No", "status": status, "detail": "why not", **members}
    return Answer(status, headers or {}, json.dumps(document).encode())


def event(shown: dict[str, Any]) -> bytes:
    """An event of a job's stream."""
    return f"id: {shown['revision']}\nevent: job\ndata: {json.dumps(shown)}\n\n".encode()


STREAM = Answer(200, {"content-type": "text/event-stream; charset=utf-8"})


@dataclass
class Server:
    """Replies in order; the last one for ever. Answering takes `takes_s` seconds, or as long as a request waits."""

    replies: list[Reply]
    takes_s: float = 0
    now: float = 1000.0
    requests: list[Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    told: list[tuple[str, float]] = field(default_factory=list)

    def v1(self, options: Options = Options(), retry_for_s: float = 60) -> V1:  # noqa: B008 - it is immutable
        """A client of this server."""
        policy = RetryPolicy(
            "http://there", retry_for_s, lambda *what: self.told.append(what), lambda: self.now, lambda: 1.0
        )
        return V1(policy, options)

    def run(self, call: Generator[Effect, Reply, Any]) -> Any:
        """What a call returns."""
        try:
            self._play(call)
        except StopIteration as done:
            return done.value
        raise AssertionError("it never ends")

    def each(self, call: Generator[Effect | Emit[Any], Any, None]) -> list[Any]:
        """What a call gives."""
        values: list[Any] = []
        try:
            self._play(call, values)
        except StopIteration:
            return values
        raise AssertionError("it never ends")

    def _play(self, call: Generator[Any, Any, Any], values: list[Any] | None = None) -> None:
        reply: Reply = None
        for _ in range(10_000):
            effect = call.send(reply)
            reply = None
            match effect:
                case Pause(seconds):
                    self.pauses.append(seconds)
                    self.now += seconds
                case Emit(value):
                    assert values is not None
                    values.append(value)
                case _:
                    if isinstance(effect, Send | Open):
                        self.requests.append(effect.request)
                    self.now += self.takes_s
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def bodies(requests: Iterable[Request]) -> list[Any]:
    """What was posted."""
    return [json.loads(request.body or b"null") for request in requests]
