"""Callers from any address of the loopback network: to nginx, each address is another caller.

On Linux all of 127.0.0.0/8 is this machine's.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Self


class Request(asyncio.Protocol):
    """A request on a connection of its own, of which some bytes were sent, and what has come back."""

    def __init__(self, on_answer: Callable[[], None] = lambda: None) -> None:
        self.answer = b""
        self._on_answer = on_answer

    @classmethod
    async def sent(
        cls,
        url: str,
        address: str,
        head: str,
        body: bytes = b"",
        *,
        line: str = "POST /",
        on_answer: Callable[[], None] = lambda: None,
    ) -> tuple[asyncio.Transport, Self]:
        """Connect from `address` and send these bytes; `on_answer` is called when the answer has begun."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        transport, request = await asyncio.get_running_loop().create_connection(
            lambda: cls(on_answer), host, int(port), local_addr=(address, 0)
        )
        transport.write(f"{line} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        return transport, request

    def data_received(self, data: bytes) -> None:
        """Keep what came."""
        if not self.answer:
            self._on_answer()
        self.answer += data

    @property
    def status(self) -> int | None:
        """The status of the answer; None while it is not complete."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        if length is None or len(body) < int(length[1]):
            return None
        return int(head.split(b" ")[1])


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
