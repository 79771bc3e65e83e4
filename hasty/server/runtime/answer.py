"""An answer to a request, its bytes, and what gives it."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Answer(NamedTuple):
    """An answer to a request: status code, headers beside the content's type and length, JSON of some type."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    media_type: str = "application/json"


Respond = Callable[[bytes, str], asyncio.Future[Answer]]
"""Answers a request, given its body and its caller: the address that nginx names in X-Forwarded-For, which callers
cannot set; or empty. It must not raise. If its future is cancelled or fails, the connection is closed instead; the
future is cancelled when the caller hangs up before."""


class Shortcut(Protocol):
    """Answers some requests straight from the connection: without ASGI, and without a task for each."""

    def route(self, method: bytes, target: bytes) -> Respond | None:
        """Return what answers a request; None when it is not to be answered here."""
        ...


Refuse = Callable[[HTTPStatus, str, bytes], Answer]
"""Answers what cannot be read as a request: the status, a text, and the target, as far as it was read."""


def refusal(status: HTTPStatus, text: str, _target: bytes = b"") -> Answer:
    """Refuse a request before it reaches the application."""
    return Answer(status, (), json.dumps({"message": text}, separators=(",", ":")).encode())


def written(answer: Answer, *, closing: bool) -> bytes:
    """Return the bytes of an answer; `closing` tells the caller that the connection ends with it."""
    return b"".join(
        [
            _STATUS_LINES[answer.status],
            b"content-type: %b\r\ncontent-length: %d\r\n" % (answer.media_type.encode(), len(answer.body)),
            *[f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers],
            b"connection: close\r\n\r\n" if closing else b"\r\n",
            answer.body,
        ]
    )
