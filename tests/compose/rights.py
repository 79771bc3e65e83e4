"""What each user of the broker may do and what not, in the form that `inside/nats_rights.py` takes."""

import re
from dataclasses import dataclass

from tests.servers import CONTAINER_NATS

_JETSTREAM = (
    "STREAM.PURGE",
    "STREAM.DELETE",
    "STREAM.MSG.DELETE",
    "STREAM.MSG.GET",
    "STREAM.RESTORE",
    "STREAM.SNAPSHOT",
)
_STREAMS = ("JOBS", "WORK")
_REFUSED_TO_ALL = (
    *(f"pub:$JS.API.{call}.{stream}" for call in _JETSTREAM for stream in _STREAMS),
    "pub:$JS.API.STREAM.CREATE.OTHER",
    *(f"pub:$JS.API.DIRECT.GET.{stream}" for stream in _STREAMS),
    "pub:$JS.API.CONSUMER.DELETE.JOBS.job-created-group",
    "pub:$JS.API.CONSUMER.DELETE.WORK.work-greet",
    "pub:$SYS.REQ.SERVER.PING",
    "pub:$JS.API.ACCOUNT.PURGE",
    "sub:>",
    "sub:job:created",
    "sub:work.greet",
    "sub:$JS.>",
    "sub:_INBOX.>",
    "sub:_INBOX_another.x",
)
_CHANGES = tuple(
    f"pub:$JS.API.{change}"
    for stream in _STREAMS
    for change in (f"STREAM.CREATE.{stream}", f"STREAM.UPDATE.{stream}", f"CONSUMER.CREATE.{stream}.x")
)
_INFO = tuple(f"pub:$JS.API.STREAM.INFO.{stream}" for stream in _STREAMS)
_OWN_INBOX = "sub:_INBOX_{me}.x"


def _taken(*consumers: str) -> tuple[str, ...]:
    """What is needed to take messages from these consumers, each with its stream before it."""
    return tuple(
        subject
        for consumer in consumers
        for subject in (f"pub:$JS.API.CONSUMER.MSG.NEXT.{consumer}", f"pub:$JS.ACK.{consumer}.1.1.1.1.1")
    )


_OF_API = (
    *(f"pub:{subject}" for subject in ("job:created", "job:cancel", "work.greet", "hasty.applied", "hasty.set_up")),
    *_taken(*(f"JOBS.{name}-group" for name in ("job-finished", "job-failed", "job-cancelled", "job-again"))),
    *_taken("JOBS.kind-announced-group"),
    *("pub:hasty.forget", "sub:hasty.pulse", "sub:hasty.forgot", "sub:hasty.applied"),
)
_OF_JOB = (
    *(f"pub:{subject}" for subject in ("job:finished", "job:failed", "job:cancelled", "job:again", "kind:announced")),
    *_taken("JOBS.job-created-group", "JOBS.job-cancel-group", "WORK.work-greet"),
    *("pub:hasty.pulse", "pub:hasty.forgot", "pub:hasty.holds"),
    *("sub:hasty.cancel", "sub:hasty.forget", "sub:hasty.holds"),
)
_OF_BOTH = ("pub:hasty.cancel",)


@dataclass(frozen=True)
class Rights:
    """What a user must be refused, and what it must be allowed."""

    refused: tuple[str, ...]
    allowed: tuple[str, ...]


RIGHTS = {
    "api": Rights(
        (*_REFUSED_TO_ALL, *_CHANGES, *_INFO, *_OF_JOB, "sub:_INBOX_job.x", "sub:hasty.set_up"),
        (*_OF_API, *_OF_BOTH, _OWN_INBOX),
    ),
    "job": Rights(
        (*_REFUSED_TO_ALL, *_CHANGES, *_OF_API, *_INFO, "sub:_INBOX_api.x", "sub:hasty.set_up"),
        (*_OF_JOB, *_OF_BOTH, _OWN_INBOX),
    ),
    "setup": Rights(
        (*_REFUSED_TO_ALL, *_OF_API, *_OF_JOB, *_OF_BOTH, "sub:_INBOX_api.x"), (*_INFO, _OWN_INBOX, "sub:hasty.set_up")
    ),
}


def permitted(user: str) -> list[str]:
    """The subjects that the broker's configuration lets a user publish to."""
    text = (CONTAINER_NATS / "nats-server.conf").read_text()
    (block,) = re.findall(rf"^{user}_publish: \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([^"]+)"', block)
