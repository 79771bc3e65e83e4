"""The stream and its durable consumers, as data. `provisioning.ensure` makes the broker look like this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hasty.server.messaging.events import WORK_PREFIX, Subject, work_subject

STREAM: Final = "JOBS"
"""The root kind's turns, and every job's endings."""

WORK: Final = "WORK"
"""The turns of all other kinds. A stream of its own, so that large inputs never push an ending out."""


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable pull consumer: all processes that use it share it, and each message goes to one of them."""

    name: str
    subject: str
    stream: str = STREAM


FIRST_DELIVERY_S: Final = 2.0
"""A message that the broker has had for longer may have been delivered before, whatever its delivery says."""

JOB_CREATED: Final = Durable("job-created-group", Subject.CREATED.value)
JOB_FINISHED: Final = Durable("job-finished-group", Subject.FINISHED.value)
JOB_FAILED: Final = Durable("job-failed-group", Subject.FAILED.value)
JOB_CANCELLED: Final = Durable("job-cancelled-group", Subject.CANCELLED.value)
JOB_AGAIN: Final = Durable("job-again-group", Subject.AGAIN.value)
JOB_CANCEL: Final = Durable("job-cancel-group", Subject.CANCEL.value)
KIND_ANNOUNCED: Final = Durable("kind-announced-group", Subject.KIND.value)
DURABLES: Final = (JOB_CREATED, JOB_FINISHED, JOB_FAILED, JOB_CANCELLED, JOB_AGAIN, JOB_CANCEL, KIND_ANNOUNCED)
"""Those that there always are; each kind has one more, see `work_durable`."""


def work_durable(kind: str) -> Durable:
    """Return the consumer of a kind's turns."""
    return Durable(f"work-{kind}", work_subject(kind), WORK)


_NS: Final = 1_000_000_000

STREAM_CONFIG: Final[dict[str, object]] = {
    "name": STREAM,
    # `job:*` would match nothing: `*` stands for a whole token, and a colon does not end one.
    "subjects": [subject.value for subject in Subject],
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    # A job whose message is older is published again by an api-server, which knows what is unfinished.
    "max_age": 3600 * _NS,
    "max_bytes": 1024**3,
    # An output of 32 KiB is a text in an event, and each of its characters may take two there.
    "max_msg_size": 256 * 1024,
    # A job dispatched again with the same number within this time is dropped by the broker.
    "duplicate_window": 600 * _NS,
    "allow_atomic": True,
    "num_replicas": 1,
}

WORK_STREAM_CONFIG: Final[dict[str, object]] = {
    **STREAM_CONFIG,
    "name": WORK,
    # No work queue: that would remove each message with its acknowledgement, and sync each removal.
    "subjects": [f"{WORK_PREFIX}*"],
}

STREAMS: Final = {STREAM: STREAM_CONFIG, WORK: WORK_STREAM_CONFIG}


def consumer_config(durable: Durable, ack_wait_s: float) -> dict[str, object]:
    """Describe a durable consumer; after `ack_wait_s` without a heartbeat, a message is delivered again."""
    return {
        "durable_name": durable.name,
        "filter_subject": durable.subject,
        # From the first message on: what was published before a consumer existed is work all the same.
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NS),
        # Without limit, and no `backoff`: both would leave a message in the stream unnoticed.
        "max_deliver": -1,
        # Each process bounds what it takes; a bound here would be shared by all of them.
        "max_ack_pending": -1,
        "replay_policy": "instant",
    }
