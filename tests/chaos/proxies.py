"""A TCP proxy on each link, which can be cut, made deaf, slow or one-way, or lose an answer; it also witnesses writes.

One `Proxy` stands before one address. Its bad state (`LinkState`) applies to the connections it has and to new ones.
A black hole holds bytes back and never drops some: TCP would repeat them, so a stream with a hole in it does not
exist; what does exist is a stream that stands still and goes on, or ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import bson

_CHUNK: Final = 64 * 1024
_WRITES: Final = frozenset({"insert", "update", "delete", "findAndModify", "findandmodify"})
_OP_MSG: Final = 2013


class LinkState(Enum):
    """What a proxy does to the bytes on it."""

    FAIR = "fair"
    CUT = "cut"
    BLACK_HOLE = "black hole"
    DEAF = "nothing goes there"
    DUMB = "nothing comes back"
    SLOW = "slow"
    LOSE_ANSWER = "the answer alone is lost"


@dataclass(slots=True)
class Journalling:
    """What the services asked of their databases, read off the wire."""

    journalled: int = 0
    not_journalled: int = 0
    example: str = ""

    def see(self, command: dict[str, Any]) -> None:
        """Count a command if it writes."""
        name = next(iter(command), "")
        if name not in _WRITES:
            return
        concern = command.get("writeConcern") or {}
        if concern.get("j") is True and concern.get("w", 1) != 0:
            self.journalled += 1
            return
        self.not_journalled += 1
        self.example = self.example or f"{name} into {command[name]} with writeConcern {dict(concern)}"


@dataclass(eq=False)
class Proxy:
    """The proxy before one address; `listen` binds at once, so that the address can be handed out before it serves."""

    child: str
    target: str
    upstream: tuple[str, int]
    journalling: Journalling | None = None
    state: LinkState = LinkState.FAIR
    delay_s: float = 0.2
    lost_answers: int = 0
    accepted: int = 0
    _sock: socket.socket = field(init=False)
    _server: asyncio.Server | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _frozen: set[asyncio.Task[None]] = field(default_factory=set)

    def listen(self) -> str:
        """Take a port and start serving in the running loop; give the address."""
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._sock.settimeout(0)
        self._serving = asyncio.get_running_loop().create_task(self._serve(), name=f"proxy {self.child}-{self.target}")
        host, port = self._sock.getsockname()
        return f"{host}:{port}"

    async def close(self) -> None:
        """End every connection and the server."""
        self._serving.cancel()
        tasks = [self._serving, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        self._sock.close()

    def set_state(self, state: LinkState) -> None:
        """Change the state for the connections there are and for new ones."""
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if state is LinkState.CUT:
            self.break_all()

    def freeze_open(self) -> None:
        """Let nothing more through the connections there are, for ever; new ones are as the state is."""
        self._frozen.update(self._open)

    def break_all(self) -> None:
        """End the connections there are, as a reset does."""
        for task in self._open:
            task.cancel()

    @contextlib.asynccontextmanager
    async def during(self, state: LinkState) -> AsyncIterator[None]:
        """Hold a state for as long as the block lasts."""
        self.set_state(state)
        try:
            yield
        finally:
            self.set_state(LinkState.FAIR)

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._sock)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._open.add(task)
        try:
            if self.state is not LinkState.CUT:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a broken connection is this proxy's trade; the task ends here either way
        finally:
            self._open.discard(task)
            self._frozen.discard(task)
            _abort(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # In a black hole nobody answers the first packet either; the local accept cannot be helped.
        await self._until_passable(away=True)
        there_reader, there_writer = await asyncio.open_connection(*self.upstream)
        owner = asyncio.current_task()
        assert owner is not None
        try:
            out = asyncio.create_task(self._pump(owner, reader, there_writer, away=True), name="proxy out")
            back = asyncio.create_task(self._pump(owner, there_reader, writer, away=False), name="proxy back")
            try:
                await asyncio.gather(out, back)
            finally:
                out.cancel()
                back.cancel()
                await asyncio.gather(out, back, return_exceptions=True)
        finally:
            _abort(there_writer)

    async def _pump(
        self, owner: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, away: bool
    ) -> None:
        witness = _Witness(self.journalling) if away and self.journalling is not None else None
        while data := await reader.read(_CHUNK):
            if self.state is LinkState.LOSE_ANSWER and not away:
                self.lost_answers += 1
                raise ConnectionAbortedError("the answer is lost, and the connection with it")
            if self.state is LinkState.SLOW:
                await asyncio.sleep(self.delay_s)
            await self._until_passable(away=away)
            if owner in self._frozen:
                await asyncio.get_running_loop().create_future()
            if witness is not None:
                witness.feed(data)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _until_passable(self, *, away: bool) -> None:
        while self.state is LinkState.BLACK_HOLE or self.state is (LinkState.DEAF if away else LinkState.DUMB):
            await self._changed.wait()


class _Witness:
    """Reads the commands out of one connection's bytes."""

    def __init__(self, journalling: Journalling) -> None:
        self._journalling = journalling
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 16:
            length, _, _, op = struct.unpack_from("<iiii", self._buffer)
            if len(self._buffer) < length:
                return
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            if op == _OP_MSG:
                self._read(message)

    def _read(self, message: bytes) -> None:
        at = 20  # the header and the flags
        while at < len(message) - 4:
            kind = message[at]
            (size,) = struct.unpack_from("<i", message, at + 1)
            if kind == 0:
                self._journalling.see(bson.decode(message[at + 1 : at + 1 + size]))
                return
            at += 1 + size


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        if sock is not None:
            # A reset, as a cut is one: without it the other side would see an orderly end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
