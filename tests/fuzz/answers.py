"""Answers off the wire, and whether each of them is the answer to its request."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from tests.fuzz.requests import Jobs, Message

_NO_JOB: Final = re.compile(r"no job with id: ([A-Za-z0-9-]{8,})")
_END_OF_HEAD: Final = b"\r\n\r\n"


class TornAnswerError(Exception):
    """What the server sent is no HTTP answer with JSON in it; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An answer of the server: status, headers by lower-case name, the value of `message` in its body."""

    status: int
    headers: dict[str, str]
    message: Any


class Answers:
    """Reads answers out of a stream of bytes; `messages` are the requests, which say whose answer has no body."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._buffer = b""
        self.all: list[Answer] = []

    @property
    def torn(self) -> bytes:
        """What has been read of an answer that is not complete."""
        return self._buffer

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            TornAnswerError: when these bytes are no answer.
        """
        self._buffer += data
        while (answer := self._next()) is not None:
            if answer.status >= 200:
                self.all.append(answer)

    def _next(self) -> Answer | None:
        head, separator, rest = self._buffer.partition(_END_OF_HEAD)
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        if not re.fullmatch(r"HTTP/1\.1 [1-5]\d\d .*", first):
            raise TornAnswerError(f"no status line: {first!r}")
        status = int(first.split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if len(headers) != len(lines):
            raise TornAnswerError(f"a header twice: {lines}")
        length = int(headers["content-length"]) if self._has_body(status) else 0
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return Answer(status, headers, _message(headers, rest[:length]) if length else None)

    def _has_body(self, status: int) -> bool:
        at = len(self.all)
        return status >= 200 and (at >= len(self._messages) or self._messages[at].has_body)


def _message(headers: dict[str, str], body: bytes) -> Any:
    if headers.get("content-type") != "application/json":
        raise TornAnswerError(f"not JSON: {headers} {body[:200]!r}")
    content = json.loads(body)
    if list(content) != ["message"]:
        raise TornAnswerError(f"not in the contract's shape: {body[:200]!r}")
    return content["message"]


def mismatch(answer: Answer, request: Message, jobs: Jobs) -> str | None:
    """Say why an answer cannot be that of a valid request; None when it is. A new job is remembered."""
    if answer.status != request.status:
        return f"status {answer.status} instead of {request.status}: {answer.message}"
    if request.text is not None and answer.message != request.text:
        return f"{answer.message!r} instead of {request.text!r}"
    if request.status == 201:
        job_id = answer.message["job_id"]
        if answer.headers["location"] != f"/{job_id}":
            return f"location {answer.headers['location']} beside job {job_id}"
        assert request.object_id is not None
        if not jobs.add(job_id, request.object_id):
            return f"job {job_id} was made for {jobs.objects[job_id]} before, now for {request.object_id}"
    if request.status == 200:
        shown = (answer.message["id"], answer.message["job_id"], answer.message["object_id"])
        if shown != (request.job_id, request.job_id, request.object_id):
            return f"{shown} instead of {request.job_id} of {request.object_id}"
    return None


def impossible(answer: Answer, sent: bytes, jobs: Jobs) -> str | None:
    """Say why an answer cannot be one to anything within these bytes; None when it can."""
    if answer.status >= 500:
        return f"status {answer.status}: {answer.message}"
    decoded = unquote_to_bytes(sent)
    if answer.status == 200:
        job_id, object_id = answer.message["id"], answer.message["object_id"]
        if job_id.encode() not in decoded:
            return f"job {job_id} was never asked for here"
        if jobs.objects.get(job_id, object_id) != object_id:
            return f"job {job_id} is of {jobs.objects[job_id]}, not of {object_id}"
    if answer.status == 201 and answer.message["job_id"] in jobs.objects:
        return f"job {answer.message['job_id']} was made before"
    if isinstance(answer.message, str) and (named := _NO_JOB.fullmatch(answer.message)):
        return None if named[1].encode() in decoded else f"{answer.message}, which was never asked for here"
    return None
