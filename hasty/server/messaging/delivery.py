"""A message that waits for its acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONG_ACK_TOKENS: Final = 11


@dataclass(slots=True)
class Delivery:
    """A message that waits for its acknowledgement; `attempt` counts its deliveries, from 1."""

    subject: str
    data: bytes
    reply: str
    attempt: int
    stream_sequence: int
    stored_ns: int
    """When the broker stored it, in nanoseconds since 1970."""
    message_id: str | None = None
    """Under which id it was published, if any."""

    @property
    def key(self) -> str:
        """What identifies this message among all that ever were, and is the same at each of its deliveries."""
        return f"{self.subject}:{self.stream_sequence}:{self.stored_ns}"


def parse(subject: str, reply: str, data: bytes, headers: bytes | None) -> Delivery:
    """Read what the broker says of a delivery from its acknowledgement subject, and the message id from its headers."""
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or the long form with
    # domain and account before the stream.
    tokens = reply.split(".")
    first = 4 if len(tokens) < _LONG_ACK_TOKENS else 6
    return Delivery(
        subject,
        data,
        reply,
        attempt=int(tokens[first]),
        stream_sequence=int(tokens[first + 1]),
        stored_ns=int(tokens[first + 3]),
        message_id=_message_id(headers),
    )


def _message_id(headers: bytes | None) -> str | None:
    if headers is None:
        return None
    _, found, rest = headers.partition(b"\r\nNats-Msg-Id:")
    return rest.split(b"\r\n", 1)[0].strip().decode("utf-8", "replace") if found else None
