"""One member of a simulated replica set: a real database, and the proxy through which alone it is reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

from hasty.server.local_stack import Child
from tests.replica_set import messages
from tests.replica_set.messages import Message

BROKEN = (OSError, asyncio.IncompleteReadError)


class Upstream:
    """A connection to a member's database, made at its first use; one question at a time."""

    def __init__(self, database: Child) -> None:
        self._database = database
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Message) -> Message:
        """Pass a request on as it came.

        Raises:
            OSError | asyncio.IncompleteReadError: when the database is gone.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._database.port)
        reader, writer = self._streams
        try:
            writer.write(request.raw)
            return await messages.read(reader)
        except BaseException:
            self.close()  # whatever it still answers is not the answer to the next question
            raise

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Session:
    """One client's connection to a member, which may need the database of the other one as well."""

    def __init__(self) -> None:
        self._upstreams: dict[Member, Upstream] = {}

    async def ask(self, member: Member, request: Message) -> Message:
        """Ask a member's database."""
        if member not in self._upstreams:
            self._upstreams[member] = Upstream(member.database)
        return await self._upstreams[member].ask(request)

    def close(self) -> None:
        """End its connections."""
        for upstream in self._upstreams.values():
            upstream.close()


class Member:
    """A member; `clock_ahead` is by how much its clock is ahead of this machine's."""

    def __init__(self, database: Child, clock_ahead: timedelta) -> None:
        self.database = database
        self.clock_ahead = clock_ahead
        self.address = ""
        self._reachable = True
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self, answer: Callable[[Member, Session, Message], Awaitable[bytes]]) -> AsyncIterator[None]:
        """Accept clients, and let `answer` answer them."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task: Any = asyncio.current_task()
            self._open.add(task)
            session = Session()
            try:
                while self._reachable:
                    writer.write(await answer(self, session, await messages.read(reader)))
            except (*BROKEN, asyncio.CancelledError):
                pass  # the client has gone, the database was killed, or the member is unreachable: all end here
            finally:
                self._open.discard(task)
                session.close()
                writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=512)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        try:
            yield
        finally:
            await self.disconnect()
            server.close()

    async def disconnect(self) -> None:
        """Be unreachable: every connection ends, and so does every new one at once."""
        self._reachable = False
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reconnect(self) -> None:
        """Be reachable again."""
        self._reachable = True
