"""A request as it travels, its answer, and the jobs that were made."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal


@dataclass(frozen=True)
class V1:
    """What an answer of `/v1` shows, beside its status: a problem of one of these names, or jobs of these objects.

    A member of a batch that is refused has None for its object. `other_status` depends on how far a job is. `filters`
    are those of a list.
    """

    shows: Literal["job", "list", "batch", "stream", "problem", "other"]
    problems: tuple[str, ...] = ()
    objects: tuple[str | None, ...] = ()
    other_status: int | None = None
    filters: str = ""


@dataclass(frozen=True)
class Message:
    """A request as it travels, and its answer: status, exact text if it has one, and whose job it is about.

    `v1` says more of what `/v1` answers; it is None for requests of the original contract.
    """

    data: bytes
    status: int
    text: str | None = None
    object_id: str | None = None
    job_id: str | None = None
    has_body: bool = True
    v1: V1 | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the answer has no end until the caller hangs up."""
        return self.v1 is not None and self.v1.shows == "stream"


class Jobs:
    """The jobs that were made so far, with some of their batches and pages of their list; and ids nobody has used."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._ids: list[str] = []
        self.objects: dict[str, str] = {}
        self.batches: deque[str] = deque(maxlen=100)
        self.cursors: deque[tuple[str, str]] = deque(maxlen=100)
        """Filters of lists, and where a page of each ended."""

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


def written(rng: Random, method: str, target: str, body: bytes = b"", more: Sequence[str] = ()) -> bytes:
    """Write a request, in one of the many ways in which it may be written; with `more` headers."""
    headers = [f"{_cased(rng, 'host')}: hasty", *more]
    headers += [f"X-{number}: {'y' * rng.randrange(60)}" for number in range(rng.choice([0, 0, 1, 5, 60]))]
    headers += rng.choice(
        [[], [], ["Content-Type: application/x-www-form-urlencoded"], [] if more else ["Accept: */*"]]
    )
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
