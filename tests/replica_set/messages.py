"""MongoDB's wire protocol as far as drivers use it here: one command in a message, one answer to it."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any, Final

import bson

OP_REPLY: Final = 1
OP_QUERY: Final = 2004
OP_MSG: Final = 2013
_HEADER: Final = struct.Struct("<iiii")
_REPLY: Final = struct.Struct("<iqii")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came, with its command or answer decoded."""

    raw: bytes
    request_id: int
    op: int
    body: dict[str, Any]


async def read(reader: asyncio.StreamReader) -> Message:
    """Read one message.

    Raises:
        asyncio.IncompleteReadError: when the connection ended.
    """
    head = await reader.readexactly(_HEADER.size)
    length, request_id, _, op = _HEADER.unpack(head)
    raw = head + await reader.readexactly(length - _HEADER.size)
    return Message(raw, request_id, op, _body(op, raw))


def answer(request: Message, body: dict[str, Any]) -> bytes:
    """Encode an answer, in the form that fits the request: a driver greets with OP_QUERY, and goes on with OP_MSG."""
    if request.op == OP_QUERY:
        op, content = OP_REPLY, _REPLY.pack(0, 0, 0, 1) + bson.encode(body)
    else:
        op, content = OP_MSG, bytes(5) + bson.encode(body)  # no flags, a section of kind 0
    return _HEADER.pack(_HEADER.size + len(content), 0, request.request_id, op) + content


def _body(op: int, raw: bytes) -> dict[str, Any]:
    if op == OP_MSG:
        return _sections(raw)
    if op == OP_QUERY:
        name_ends = raw.index(b"\0", _HEADER.size + 4)
        return bson.decode(raw[name_ends + 9 :])
    if op == OP_REPLY:
        return bson.decode(raw[_HEADER.size + _REPLY.size :])
    raise ValueError(f"a message of type {op} was not expected here")


def _sections(raw: bytes) -> dict[str, Any]:
    """Give the one document of kind 0, with the documents of each sequence of kind 1 under the sequence's name."""
    (flags,) = struct.unpack_from("<I", raw, _HEADER.size)
    end = len(raw) - (4 if flags & 1 else 0)  # a checksum
    body: dict[str, Any] = {}
    at = _HEADER.size + 4
    while at < end:
        kind = raw[at]
        (size,) = struct.unpack_from("<i", raw, at + 1)
        content = raw[at + 1 : at + 1 + size]
        if kind == 0:
            body = bson.decode(content) | body
        else:
            name, _, documents = content[4:].partition(b"\0")
            body[name.decode()] = bson.decode_all(documents)
        at += 1 + size
    return body
