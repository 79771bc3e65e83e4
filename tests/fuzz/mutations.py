"""Small changes that make a valid request something else."""

from collections.abc import Callable
from random import Random
from typing import Final

SPECIAL: Final = (0x00, 0x01, 0x09, 0x0A, 0x0D, 0x1B, 0x20, 0x22, 0x25, 0x2C, 0x2F, 0x3A, 0x3B, 0x7F, 0x80, 0xC3, 0xFF)
TOKENS: Final = (
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: keep-alive, close\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"X: \xff\x00\x01\r\n",
    b" HTTP/1.0",
    b" HTTP/2.0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"%00%ff%ed%a0%80",
    b"\\ud800",
    b"[" * 3000,
    b"1e999",
)
LONG: Final = (1_000, 20_000, 70_000)

Mutation = Callable[[Random, bytes], bytes]


def mutate(rng: Random, data: bytes) -> bytes:
    """Return the data with one to four changes."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        mutation: Mutation = rng.choice(MUTATIONS)
        data = mutation(rng, data)
    return data


def _at(rng: Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _replace(rng: Random, data: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + bytes([rng.choice(SPECIAL)]) + data[at + 1 :]


def _insert(rng: Random, data: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _insert_line(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(TOKENS).removesuffix(b"\r\n"))
    return b"\r\n".join(lines)


def _delete(rng: Random, data: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + data[at + rng.choice([1, 2, 4, 30]) :]


def _repeat(rng: Random, data: bytes) -> bytes:
    at = _at(rng, data)
    piece = data[at : at + rng.choice([1, 4, 30, 200])]
    return data[:at] + piece * rng.choice([2, 3, 50]) + data[at:]


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: _at(rng, data)]


def _swap_lines(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _lengthen(rng: Random, data: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + bytes([rng.choice(b"yA0 /%")]) * rng.choice(LONG) + data[at:]


def _change_number(rng: Random, data: bytes) -> bytes:
    places = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + rng.choice([b"0", b"1", b"9", b"-1", b"+1", b"0x1", b"9" * 30]) + data[at + 1 :]


def _many_headers(rng: Random, data: bytes) -> bytes:
    line, separator, rest = data.partition(b"\r\n")
    return line + separator + b"a: b\r\n" * rng.choice([90, 150, 2_000]) + rest


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip,
    _flip,
    _replace,
    _replace,
    _insert,
    _insert,
    _insert_line,
    _delete,
    _repeat,
    _truncate,
    _swap_lines,
    _lengthen,
    _change_number,
    _many_headers,
)
