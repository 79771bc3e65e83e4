"""The socket between a job-server and its child."""

import asyncio
import math
import socket
from typing import Any

import pytest

from hasty.executor.channel import Channel, Garbage, Message, decode


async def exchanged(*messages: list[Any]) -> list[Message]:
    """Send messages through a socket pair, and return what arrives."""
    loop = asyncio.get_running_loop()
    arrived: list[Message] = []
    all_here = loop.create_future()

    def receive(message: Message) -> None:
        arrived.append(message)
        if len(arrived) == len(messages):
            all_here.set_result(None)

    ends = [Channel(lambda _: None, lambda _: None), Channel(receive, lambda _: None)]
    for end, sock in zip(ends, socket.socketpair(), strict=True):
        await loop.create_connection(lambda end=end: end, sock=sock)  # type: ignore[misc]
    for message in messages:
        ends[0].send(*message)
    async with asyncio.timeout(30):
        await all_here
    for end in ends:
        end.close()
    return arrived


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "\ud800 alone",
        {"output": '"\u2028 é"', "at": 1796033859.123456, "digits": 10**350},
        [[[[None, True, -0.0, 1e-7, 1e300]]]],
        math.inf,
    ],
)
async def test_what_is_sent_arrives(value: object) -> None:
    """Whatever a handler's text or number is."""
    assert await exchanged(["ended", "a", value], ["pong", 1]) == [["ended", "a", value], ["pong", 1]]


@pytest.mark.parametrize("line", [b"", b"{", b"{}", b"[1]", b"[[]]", b"[[1]]", b"\xff", b"[" * 100_000])
def test_garbage_is_no_message(line: bytes) -> None:
    """A child that is not understood is replaced."""
    with pytest.raises(Garbage):
        decode(line)
