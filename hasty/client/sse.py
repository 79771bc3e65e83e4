"""Server-sent events (WHATWG HTML, section 9.2), out of bytes as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

EVENT_MAX: Final = 1024 * 1024
"""No event of Hasty's has so many bytes."""


class TooLong(ValueError):
    """A stream does not end its event."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event of a stream; `id` is the latest that the stream has given."""

    name: str
    data: str
    id: str


class Parser:
    """Reads the events of one stream; what an unfinished last event holds is dropped, as the standard has it."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Take the next bytes, and give the events that they complete.

        Raises:
            TooLong: when an event grows beyond all bounds.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if (message := self._line(line.rstrip(b"\r").decode("utf-8", "replace"))) is not None:
                yield message
        if len(self._rest) + sum(map(len, self._data)) > EVENT_MAX:
            raise TooLong(f"an event has more than {EVENT_MAX} bytes")

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatched()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
        return None

    def _dispatched(self) -> Message | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return Message(name or "message", "\n".join(data), self._id) if data else None
