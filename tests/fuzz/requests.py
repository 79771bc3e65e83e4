"""Valid requests of the original contract in many forms, each with the answer that it must get."""

import json
import uuid
from collections.abc import Callable
from random import Random
from typing import Final

from tests.fuzz.messages import Jobs, Message, written

USE: Final = "use POST / or GET /<job_id>"
EXAMPLE: Final = 'the body must be a JSON object such as {"object_id": "x"}'
BODY_MAX: Final = 64 * 1024


def message(rng: Random, jobs: Jobs) -> Message:
    """Return some valid request; some are refused, each with its own text."""
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
    return Message(written(rng, "POST", "/", body), 201, object_id=object_id)


def _read(rng: Random, jobs: Jobs) -> Message:
    job_id = jobs.any(rng)
    if job_id is None:
        return _unknown(rng, jobs)
    target = f"/{job_id}{rng.choice(['', '', '', '?a=b'])}"
    body = rng.choice([b"", b"", b"", b"ignored"])
    return Message(written(rng, "GET", target, body), 200, object_id=jobs.objects[job_id], job_id=job_id)


def _unknown(rng: Random, _: Jobs) -> Message:
    job_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return Message(written(rng, "GET", f"/{job_id}"), 400, f"no job with id: {job_id}")


def _token(rng: Random, _: Jobs) -> Message:
    token = f"token{rng.getrandbits(64):016x}"
    spelled = "".join(f"%{ord(letter):02x}" if rng.random() < 0.1 else letter for letter in token)
    return Message(written(rng, "GET", f"/{spelled}"), 400, f"no job with id: {token}")


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
    return Message(written(rng, "POST", "/", body), 400, text)


def _no_such_path(rng: Random, _: Jobs) -> Message:
    return Message(written(rng, "GET", rng.choice(["/a/b", "//x", "/x/"])), 404, f"no such path: {USE}")


def _method(rng: Random, _: Jobs) -> Message:
    method = rng.choice(["PUT", "PATCH", "DELETE", "OPTIONS"])
    return Message(written(rng, method, "/", rng.choice([b"", b"{}"])), 405, f"method not allowed: {USE}")


def _head(rng: Random, _: Jobs) -> Message:
    return Message(written(rng, "HEAD", "/x"), 405, has_body=False)
