"""Valid requests in many forms, each with the answer that it must get."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

USE: Final = "use POST / or GET /<job_id>"
EXAMPLE: Final = 'the body must be a JSON object such as {"object_id": "x"}'
BODY_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class Message:
    """A request as it travels, and its answer: status, exact text if it has one, and whose job it is about."""

    data: bytes
    status: int
    text: str | None = None
    object_id: str | None = None
    job_id: str | None = None
    has_body: bool = True


class Jobs:
    """The jobs that were made so far, and ids that nobody has used."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._ids: list[str] = []
        self.objects: dict[str, str] = {}

    def new_object_id(self, rng: Random) -> str:
        """Return an object id that no other request of any run has, also after a few changes to either."""
        return f"fuzz-{self._run}-{rng.getrandbits(96):024x}"

    def add(self, job_id: str, object_id: str) -> bool:
        """Remember a job; False when its id was given out before."""
        if job_id in self.objects:
            return False
        self.objects[job_id] = object_id
        self._ids.append(job_id)
        return True

    def any(self, rng: Random) -> str | None:
        """Return the id of some job."""
        return rng.choice(self._ids) if self._ids else None


def message(rng: Random, jobs: Jobs) -> Message:
    """Return some valid request; every run of its kinds has some that are refused, each with its own text."""
    make: Callable[[Random, Jobs], Message] = rng.choices(
        [_create, _read, _unknown, _token, _bad_body, _no_such_path, _method, _head],
        [6, 8, 5, 3, 3, 1, 2, 1],
    )[0]
    return make(rng, jobs)


def _create(rng: Random, jobs: Jobs) -> Message:
    object_id = jobs.new_object_id(rng)
    quoted = "".join(f"\\u{ord(letter):04x}" if rng.random() < 0.1 else letter for letter in object_id)
    body = f'{{"object_id": "{quoted}"{rng.choice(["", ", " + json.dumps("x") + ": [1, {}]"])}}}'.encode()
    if rng.random() < 0.05:
        body = body.ljust(rng.choice([BODY_MAX, rng.randrange(len(body), BODY_MAX)]))
    return Message(_written(rng, "POST", "/", body), 201, object_id=object_id)


def _read(rng: Random, jobs: Jobs) -> Message:
    job_id = jobs.any(rng)
    if job_id is None:
        return _unknown(rng, jobs)
    target = f"/{job_id}{rng.choice(['', '', '', '?a=b'])}"
    body = rng.choice([b"", b"", b"", b"ignored"])
    return Message(_written(rng, "GET", target, body), 200, object_id=jobs.objects[job_id], job_id=job_id)


def _unknown(rng: Random, _: Jobs) -> Message:
    job_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return Message(_written(rng, "GET", f"/{job_id}"), 400, f"no job with id: {job_id}")


def _token(rng: Random, _: Jobs) -> Message:
    token = f"token{rng.getrandbits(64):016x}"
    spelled = "".join(f"%{ord(letter):02x}" if rng.random() < 0.1 else letter for letter in token)
    return Message(_written(rng, "GET", f"/{spelled}"), 400, f"no job with id: {token}")


def _bad_body(rng: Random, _: Jobs) -> Message:
    body, text = rng.choice(
        [
            (b"{}", "you must provide an object_id"),
            (b'{"object_id": null}', "you must provide an object_id"),
            (b'{"object_id": ""}', "you must provide an object_id"),
            (b'{"object_id": 5}', "object_id must be a string"),
            (b'{"object_id": {"a": []}}', "object_id must be a string"),
            (b"[]", EXAMPLE),
            (b"null", EXAMPLE),
        ]
    )
    return Message(_written(rng, "POST", "/", body), 400, text)


def _no_such_path(rng: Random, _: Jobs) -> Message:
    return Message(_written(rng, "GET", rng.choice(["/a/b", "//x", "/x/"])), 404, f"no such path: {USE}")


def _method(rng: Random, _: Jobs) -> Message:
    method = rng.choice(["PUT", "PATCH", "DELETE", "OPTIONS"])
    return Message(_written(rng, method, "/", rng.choice([b"", b"{}"])), 405, f"method not allowed: {USE}")


def _head(rng: Random, _: Jobs) -> Message:
    return Message(_written(rng, "HEAD", "/x"), 405, has_body=False)


def _written(rng: Random, method: str, target: str, body: bytes = b"") -> bytes:
    headers = [f"{_cased(rng, 'host')}: hasty"]
    headers += [f"X-{number}: {'y' * rng.randrange(60)}" for number in range(rng.choice([0, 0, 1, 5, 60]))]
    headers += rng.choice([[], [], ["Content-Type: application/x-www-form-urlencoded"], ["Accept: */*"]])
    if body or method == "POST":
        if rng.random() < 0.25:
            headers.append(f"{_cased(rng, 'transfer-encoding')}: chunked")
            body = _chunked(rng, body)
        else:
            headers.append(f"{_cased(rng, 'content-length')}: {len(body)}")
        if rng.random() < 0.05:
            headers.append("Expect: 100-continue")
    rng.shuffle(headers)
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""])
    return head.encode() + body


def _cased(rng: Random, name: str) -> str:
    return rng.choice([name, name.title(), name.upper()])


def _chunked(rng: Random, body: bytes) -> bytes:
    chunks = []
    while body:
        size = rng.randrange(1, max(2, len(body) + 1))
        chunk, body = body[:size], body[size:]
        chunks.append(b"%x%b\r\n%b\r\n" % (len(chunk), rng.choice([b"", b"", b";a=b"]), chunk))
    trailers = rng.choice([b"", b"", b"X-Trailer: z\r\n"])
    return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"
