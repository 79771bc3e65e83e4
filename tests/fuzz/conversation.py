"""One connection: what is sent on it, in which pieces, how it ends, and whether its answers are right."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

from tests.fuzz import requests, v1_requests
from tests.fuzz.answers import Answers, TornAnswerError, impossible, mismatch
from tests.fuzz.messages import Jobs, Message
from tests.fuzz.mutations import mutate

ANSWERED_WITHIN_S: Final = 30.0
"""A server that says nothing for so long has forgotten a request: the machine may be busy, so it is much."""

LISTENED_FOR_S: Final = 0.05
"""How long a proxy that would drop answers under way is listened to before the sending half is closed."""


STREAMS: Final = 0.2
"""Which part of the conversations that can end with an event stream does."""

HTTP_0_9: Final = b"{"
"""How an answer to a request without a version begins, which nginx takes for one of HTTP/0.9: without a head."""


class End(Enum):
    """How the caller ends a connection."""

    CLOSE = "close"
    HALF_CLOSE = "half-close"
    RESET = "reset"


@dataclass(frozen=True)
class Conversation:
    """What is sent on a connection, piece by piece with pauses, of which the first `valid` requests are known."""

    valid: Sequence[Message]
    pieces: Sequence[tuple[bytes, float]]
    end: End
    mutated: bool

    @property
    def sent(self) -> bytes:
        """Everything in one."""
        return b"".join(piece for piece, _ in self.pieces)


def plan(rng: Random, jobs: Jobs) -> Conversation:
    """Return a conversation: valid, mutated, broken off, or with an event stream at its end."""
    count = rng.choice([1, 1, 2, 3, 5, 8, 20])
    messages = [rng.choice([requests, v1_requests]).message(rng, jobs) for _ in range(count)]
    end = rng.choices(list(End), [4, 4, 2])[0]
    mutated = rng.random() < 0.5
    if not mutated and end is not End.HALF_CLOSE and rng.random() < STREAMS:
        # The caller hangs up when the stream has begun; one who only half-closes would listen to it for ever.
        messages.append(v1_requests.stream(rng, jobs))
    valid = messages
    data = [one.data for one in messages]
    if mutated:
        valid = messages[: rng.randrange(count)]
        # Of the rest, nobody can say which answer is whose, so none of them may be one without a body.
        rest = [one.data for one in messages[len(valid) :] if one.has_body] or [b"GET /x HTTP/1.1\r\n\r\n"]
        data = [*(one.data for one in valid), mutate(rng, rest[0]), *rest[1:]]
    whole = b"".join(data)
    if end is End.RESET:
        whole = whole[: rng.randrange(len(whole) + 1)]
    return Conversation(valid, _pieces(rng, whole), end, mutated)


def _pieces(rng: Random, whole: bytes) -> list[tuple[bytes, float]]:
    cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.choice([0, 0, 1, 2, 6, 30])))
    ends = [*cuts, len(whole)]
    starts = [0, *cuts]
    return [(whole[start:end], rng.choice([0.0, 0.0, 0.001, 0.003])) for start, end in zip(starts, ends, strict=True)]


class Violation(Exception):
    """The server did not answer as it must; the text says what it did."""


async def hold(conversation: Conversation, port: int, jobs: Jobs, *, proxied: bool) -> int:
    """Hold a conversation, and return how many answers there were.

    Raises:
        Violation: when an answer is wrong, missing, or one too many.
    """
    loop = asyncio.get_running_loop()
    answers = Answers(conversation.valid)
    with socket.socket() as sock:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        listening = asyncio.create_task(_listen(sock, answers), name="listening")
        try:
            await _send(sock, conversation.pieces)
            if conversation.end is End.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                await _await_answers(sock, listening, answers, conversation, proxied=proxied)
        except TimeoutError:
            raise Violation(f"{len(answers.all)} answers, and then nothing for {ANSWERED_WITHIN_S:g} s") from None
        finally:
            listening.cancel()
            problem = (await asyncio.gather(listening, return_exceptions=True))[0]
    if isinstance(problem, TornAnswerError):
        raise Violation(str(problem))
    _judge(conversation, answers, jobs, complete=conversation.end is not End.RESET, proxied=proxied)
    return len(answers.all)


async def _send(sock: socket.socket, pieces: Sequence[tuple[bytes, float]]) -> None:
    loop = asyncio.get_running_loop()
    # A server may refuse to read on; what it has answered is still there to be read.
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            for piece, pause_s in pieces:
                await loop.sock_sendall(sock, piece)
                await asyncio.sleep(pause_s)


async def _listen(sock: socket.socket, answers: Answers) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(sock, 1 << 16):
            answers.feed(data)


async def _await_answers(
    sock: socket.socket, listening: asyncio.Task[None], answers: Answers, conversation: Conversation, *, proxied: bool
) -> None:
    """Wait until everything that must be answered is answered, and close as planned."""
    loop = asyncio.get_running_loop()
    half_closing = conversation.mutated or conversation.end is End.HALF_CLOSE
    if half_closing and not proxied:
        # Whatever the bytes mean: now the server knows that there are no more.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        await _ended(listening)
        return
    deadline = loop.time() + ANSWERED_WITHIN_S
    while len(answers.all) < len(conversation.valid) and not listening.done():
        if loop.time() > deadline:
            raise TimeoutError
        await asyncio.wait([listening], timeout=0.002)
    if half_closing:
        await asyncio.wait([listening], timeout=LISTENED_FOR_S)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        await _ended(listening)


async def _ended(listening: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait([listening], timeout=ANSWERED_WITHIN_S)
    if not done:
        raise TimeoutError


def _judge(conversation: Conversation, answers: Answers, jobs: Jobs, *, complete: bool, proxied: bool) -> None:
    """Compare answers with requests.

    Raises:
        Violation: when one of them is wrong.
    """
    valid = conversation.valid
    for number, (answer, request) in enumerate(zip(answers.all, valid, strict=False), 1):
        if problem := mismatch(answer, request, jobs):
            raise Violation(f"answer {number}: {problem}")
    sent = conversation.sent
    for number, answer in enumerate(answers.all[len(valid) :], len(valid) + 1):
        if problem := impossible(answer, sent, jobs):
            raise Violation(f"answer {number}: {problem}")
    if not complete:
        return
    if len(answers.all) < len(valid):
        raise Violation(f"{len(answers.all)} answers to {len(valid)} valid requests")
    if not conversation.mutated and len(answers.all) > len(valid):
        raise Violation(f"{len(answers.all)} answers to {len(valid)} valid requests")
    if answers.torn and not (conversation.mutated and proxied and answers.torn.startswith(HTTP_0_9)):
        raise Violation(f"the connection ended within an answer: {answers.torn[:200]!r}")
