"""The stream and its durable consumers, as data. `JetStream.ensure` makes the broker look like this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from messaging.events import Subject

STREAM: Final = "JOBS"


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable pull consumer: all processes of a service share it, and each message goes to one of them."""

    name: str
    subject: Subject


JOB_CREATED: Final = Durable("job-created-group", Subject.CREATED)
JOB_FINISHED: Final = Durable("job-finished-group", Subject.FINISHED)
JOB_CANCELLED: Final = Durable("job-cancelled-group", Subject.CANCELLED)
DURABLES: Final = (JOB_CREATED, JOB_FINISHED, JOB_CANCELLED)

_NS: Final = 1_000_000_000

STREAM_CONFIG: Final[dict[str, object]] = {
    "name": STREAM,
    # `job:*` would match nothing: `*` stands for a whole token, and a colon does not end one.
    "subjects": [subject.value for subject in Subject],
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    # News older than this is told again by the api-server's dispatcher, which knows what is unfinished.
    "max_age": 3600 * _NS,
    "max_bytes": 1024**3,
    "max_msg_size": 64 * 1024,
    # A job dispatched again with the same number within this time is dropped by the broker.
    "duplicate_window": 600 * _NS,
    "allow_atomic": True,
    "num_replicas": 1,
}


def consumer_config(durable: Durable, ack_wait_s: float) -> dict[str, object]:
    """Describe a durable consumer; `ack_wait_s` is the silence after which a message is another worker's."""
    return {
        "durable_name": durable.name,
        "filter_subject": durable.subject.value,
        # From the first message on: what was published before a consumer existed is work all the same.
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NS),
        # Without limit, and no `backoff`: both would leave a message in the stream without a word.
        "max_deliver": -1,
        # Each process bounds what it takes; a bound here would be shared by all of them.
        "max_ack_pending": -1,
        "replay_policy": "instant",
    }
