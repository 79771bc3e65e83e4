"""Answers off the wire, and whether each of them is the answer to its request."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from tests.fuzz.messages import V1, Jobs, Message

_NO_JOB: Final = re.compile(r"no job with id: ([A-Za-z0-9-]{8,})")
PROBLEM: Final = "urn:hasty:problem:"
_END_OF_HEAD: Final = b"\r\n\r\n"


class TornAnswerError(Exception):
    """What the server sent is no HTTP answer with JSON in it; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An answer of the server: status, headers by lower-case name, and what its body says.

    `message` is the value of `message` in it, or the detail of a problem; `document` is what `/v1` answers, otherwise
    None. Of an event stream, only the head is an answer.
    """

    status: int
    headers: dict[str, str]
    message: Any
    document: Any = None


class Answers:
    """Reads answers out of a stream of bytes; `messages` are the requests, which say whose answer has no body."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._buffer = b""
        self._streams = False
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
        if self._streams:
            return
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
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._streams, self._buffer = True, b""
            return Answer(status, headers, None, {})
        length = int(headers["content-length"]) if self._has_body(status) else 0
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return _answer(status, headers, rest[:length]) if length else Answer(status, headers, None)

    def _has_body(self, status: int) -> bool:
        at = len(self.all)
        return status >= 200 and (at >= len(self._messages) or self._messages[at].has_body)


def _answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    match headers.get("content-type"):
        case "application/json":
            content = json.loads(body)
            if not isinstance(content, dict):
                raise TornAnswerError(f"no object: {body[:200]!r}")
            if list(content) == ["message"]:
                return Answer(status, headers, content["message"])
            return Answer(status, headers, None, content)
        case "application/problem+json":
            problem = json.loads(body)
            if not {"type", "title", "status", "detail"} <= problem.keys() or problem["status"] != status:
                raise TornAnswerError(f"no problem with status {status}: {body[:200]!r}")
            return Answer(status, headers, problem["detail"], problem)
        case _:
            raise TornAnswerError(f"not JSON: {headers} {body[:200]!r}")


def mismatch(answer: Answer, request: Message, jobs: Jobs) -> str | None:
    """Say why an answer cannot be that of a valid request; None when it is. A new job is remembered."""
    if answer.status not in (request.status, request.v1 and request.v1.other_status):
        return f"status {answer.status} instead of {request.status}: {answer.message}"
    if request.text is not None and answer.message != request.text:
        return f"{answer.message!r} instead of {request.text!r}"
    if request.v1 is not None:
        return _v1_mismatch(answer, request, request.v1, jobs)
    return _contract_mismatch(answer, request, jobs)


def _contract_mismatch(answer: Answer, request: Message, jobs: Jobs) -> str | None:
    if answer.document is not None:
        return f"not in the contract's shape: {str(answer.document)[:200]}"
    if request.status == 201:
        job_id = answer.message["job_id"]
        if answer.headers["location"] != f"/{job_id}":
            return f"location {answer.headers['location']} beside job {job_id}"
        assert request.object_id is not None
        return _new(job_id, request.object_id, jobs)
    if request.status == 200:
        shown = (answer.message["id"], answer.message["job_id"], answer.message["object_id"])
        if shown != (request.job_id, request.job_id, request.object_id):
            return f"{shown} instead of {request.job_id} of {request.object_id}"
    return None


def _new(job_id: str, object_id: str, jobs: Jobs) -> str | None:
    if jobs.add(job_id, object_id):
        return None
    return f"job {job_id} was made for {jobs.objects[job_id]} before, now for {object_id}"


def _v1_mismatch(answer: Answer, request: Message, v1: V1, jobs: Jobs) -> str | None:
    if answer.document is None:
        return f"not in the shape of /v1: {answer.message!r}"
    if answer.status >= 400:
        name = answer.document.get("type", "").removeprefix(PROBLEM)
        return None if name in v1.problems else f"problem {name!r} instead of {v1.problems}"
    if (v1.shows == "stream") is not answer.headers["content-type"].startswith("text/event-stream"):
        return f"{answer.headers['content-type']} instead of {v1.shows}"
    if v1.shows == "job":
        return _job_mismatch(answer, request, v1.objects[0], jobs)
    if v1.shows == "batch":
        return _batch_mismatch(answer.document, v1.objects, jobs)
    if v1.shows == "list" and answer.document["next"] is not None:
        jobs.cursors.append((v1.filters, answer.document["next"]))
    return None


def _job_mismatch(answer: Answer, request: Message, object_id: str | None, jobs: Jobs) -> str | None:
    job = answer.document
    shown = (job["id"], job["input"]["object_id"])
    if answer.status != 201:
        return None if shown == (request.job_id, object_id) else f"{shown} instead of {request.job_id} of {object_id}"
    if answer.headers["location"] != f"/v1/jobs/{job['id']}":
        return f"location {answer.headers['location']} beside job {job['id']}"
    if shown[1] != object_id:
        return f"{shown} instead of a job of {object_id}"
    return _new(job["id"], shown[1], jobs)


def _batch_mismatch(batch: dict[str, Any], objects: Sequence[str | None], jobs: Jobs) -> str | None:
    jobs.batches.append(batch["id"])
    statuses = [member["status"] for member in batch["results"]]
    if statuses != [422 if object_id is None else 201 for object_id in objects]:
        return f"members {statuses} of a batch of {objects}"
    for member, object_id in zip(batch["results"], objects, strict=True):
        if object_id is None:
            continue
        job = member["job"]
        if job["input"]["object_id"] != object_id:
            return f"{job} instead of a job of {object_id}"
        if problem := _new(job["id"], object_id, jobs):
            return problem
    return None


def impossible(answer: Answer, sent: bytes, jobs: Jobs) -> str | None:
    """Say why an answer cannot be one to anything within these bytes; None when it can."""
    if answer.status >= 500:
        return f"status {answer.status}: {answer.message}"
    decoded = unquote_to_bytes(sent)
    if answer.document is not None:
        return _v1_impossible(answer, decoded, jobs)
    if answer.status == 200:
        job_id, object_id = answer.message["id"], answer.message["object_id"]
        if job_id.encode() not in decoded:
            return f"job {job_id} was never asked for here"
        if jobs.objects.get(job_id, object_id) != object_id:
            return f"job {job_id} is of {jobs.objects[job_id]}, not of {object_id}"
    if answer.status == 201 and answer.message["job_id"] in jobs.objects:
        return f"job {answer.message['job_id']} was made before"
    return _names_another(answer, decoded)


def _v1_impossible(answer: Answer, decoded: bytes, jobs: Jobs) -> str | None:
    if b"/v1" not in decoded:
        return f"not in the contract's shape: {str(answer.document)[:200]}"
    if "input" in answer.document:
        job_id = answer.document["id"]
        if answer.status == 201 and job_id in jobs.objects:
            return f"job {job_id} was made before"
        asked_for = job_id.encode() in decoded or "idempotency-replayed" in answer.headers
        if answer.status != 201 and not asked_for:
            return f"job {job_id} was never asked for here"
        object_id = answer.document["input"]["object_id"]
        if jobs.objects.get(job_id, object_id) != object_id:
            return f"job {job_id} is of {jobs.objects[job_id]}, not of {object_id}"
    return _names_another(answer, decoded)


def _names_another(answer: Answer, decoded: bytes) -> str | None:
    if isinstance(answer.message, str) and (named := _NO_JOB.fullmatch(answer.message)):
        return None if named[1].encode() in decoded else f"{answer.message}, which was never asked for here"
    return None
