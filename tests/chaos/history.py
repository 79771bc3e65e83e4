"""What the tester did and saw, in order: with the facts read at the end, all that the checker judges from."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

_START_WALL = time.time()
_START = time.monotonic()


def run_clock() -> float:
    """Read Unix seconds that never jump: the wall clock at the start of this process plus what has passed since."""
    return _START_WALL + (time.monotonic() - _START)


@dataclass(frozen=True, slots=True)
class Post:
    """One `POST /`: `status` is None when no answer came; `job_id` is the accepted job or the one in the way."""

    sent: float
    ended: float
    object_id: str
    status: int | None
    job_id: str | None = None
    text: str = ""

    @property
    def accepted(self) -> bool:
        """The caller was promised a job."""
        return self.status == 201

    @property
    def unanswered(self) -> bool:
        """The caller knows nothing: no answer, or one that says so."""
        return self.status is None or self.status >= 500


@dataclass(frozen=True, slots=True)
class Sight:
    """One `GET /<job_id>`: what a caller saw of a job, or the answer's code when it saw none."""

    sent: float
    ended: float
    job_id: str
    code: int | None
    status: str = ""
    sleep_s: float = 0
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class TaskPost:
    """One request to make a job of a kind, repeated with its idempotency key if it got no answer.

    `status` is that of the last answer, None when none came. `mark` is in the input of no other request. `expected`
    holds the ends that the job may come to: a status, or for one that failed, ``failed/<reason>``.
    """

    sent: float
    ended: float
    kind: str
    mark: str
    expected: tuple[str, ...]
    status: int | None
    job_id: str | None = None
    text: str = ""
    delay_s: float = 0
    attempts: int = 1
    place: str = ""
    """For a kind with a key, what the job holds while it is processing."""
    tries: int = 1

    @property
    def accepted(self) -> bool:
        """The caller was promised a job, now or when the request was first sent."""
        return self.status in {200, 201}

    @property
    def unanswered(self) -> bool:
        """The caller knows nothing: no answer, or one that says so."""
        return self.status is None or self.status >= 500


@dataclass(frozen=True, slots=True)
class Cancel:
    """One request to cancel a job: 202 says that it is being cancelled, 200 that it had ended, as `seen`."""

    sent: float
    ended: float
    job_id: str
    code: int | None
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message the tester itself published; `dead_letter` says that it must become a dead letter."""

    at: float
    subject: str
    data: bytes
    why: str
    dead_letter: bool
    about: str = ""


@dataclass(slots=True)
class Fault:
    """One injected fault: from its begin to its healing, and what was under way."""

    number: int
    kind: str
    target: str = ""
    began: float = 0
    healed: float = 0
    in_flight: int = 0
    reached: bool = True
    note: str = ""
    recovery_s: float | None = None
    """From the healing until every job accepted before it was terminal; None while that is not so."""
    alone: bool = True
    """No other fault was injected between its begin and its recovery."""
    bystanders: frozenset[str] = frozenset()
    """The jobs in flight at its begin and at its healing."""


@dataclass(slots=True)
class History:
    """Everything one run wrote down."""

    posts: list[Post] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    tasks: list[TaskPost] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def accepted(self) -> dict[str, Post]:
        """Give the answered promises, by job id."""
        return {post.job_id: post for post in self.posts if post.accepted and post.job_id}

    def write(self, path: Path) -> None:
        """Keep the history as JSON lines, one event each, in the order of time."""
        with path.open("w", encoding="utf-8") as out:
            for _, what, event in sorted(
                [(post.sent, "post", post) for post in self.posts]
                + [(sight.sent, "sight", sight) for sight in self.sights]
                + [(sent.at, "sent", sent) for sent in self.sent]
                + [(task.sent, "task", task) for task in self.tasks]
                + [(cancel.sent, "cancel", cancel) for cancel in self.cancels]
                + [(fault.began, "fault", fault) for fault in self.faults],
                key=lambda line: line[0],
            ):
                facts = {key: _plain(value) for key, value in asdict(event).items() if key != "bystanders"}
                out.write(json.dumps({"what": what, **facts}) + "\n")


def _plain(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
