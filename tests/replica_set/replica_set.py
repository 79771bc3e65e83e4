"""A replica set of two members, simulated before two real databases that know nothing of replication.

What a driver sees is a replica set: `hello` names the members and the primary, and a member that is not primary refuses
commands. What the primary's database has acknowledged reaches the secondary's after a lag, in the same order. When the
primary steps down or its process is killed, what had not reached the other member is rolled back: the new primary
never had it, and the old one becomes a copy of the new one.

A third voter without data elects, so a majority of the three is both databases: while one of them is away, nothing is
committed by a majority, as in a real set with an arbiter. The secondary's database holds what both have, which is what
a read with `readConcern: majority` sees.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from bson import ObjectId

from tests.replica_set import messages
from tests.replica_set.copying import copy
from tests.replica_set.member import Member, Session, Upstream
from tests.replica_set.messages import Message
from tests.servers import mongo_server

NAME: Final = "simulated"
LAG_S: Final = 0.3
ELECTION_S: Final = 0.4
_REPLICATE_EVERY_S: Final = 0.02
CLOCKS_APART: Final = timedelta(seconds=30)

_GREETINGS: Final = frozenset({"hello", "ismaster", "isMaster"})
_ANSWERED_BY_ANY: Final = frozenset({"ping", "buildInfo", "endSessions"})
_WRITES: Final = frozenset({"insert", "update", "delete", "createIndexes", "dropDatabase"})

_NOT_PRIMARY: Final = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
_NO_SNAPSHOT: Final = {
    "ok": 0.0,
    "code": 134,
    "codeName": "ReadConcernMajorityNotAvailableYet",
    "errmsg": "Read concern majority reads are currently not possible.",
}
_TIMED_OUT: Final = {
    "code": 64,
    "codeName": "WriteConcernTimeout",
    "errmsg": "waiting for replication timed out",
    "errInfo": {"wtimeout": True},
}
_STEPPED_DOWN: Final = {
    "code": 189,
    "codeName": "PrimarySteppedDown",
    "errmsg": "Primary stepped down while waiting for replication",
}


@dataclass(frozen=True, slots=True)
class _Write:
    """A write that the primary's database has acknowledged, at a time of the event loop."""

    position: int
    at: float
    request: Message


class ReplicaSet:  # long: elections, replication and answers share one state
    """A running set; see `running`."""

    def __init__(self, first: Member, second: Member, lag_s: float) -> None:
        self.primary: Member | None = first
        self.rolled_back = 0
        """Acknowledged writes that an election has lost."""
        self._members = (first, second)
        self._secondary: Member | None = second  # the other member, while it follows
        self._replication = Upstream(second.database)
        self.lag_s = lag_s
        """How long a write takes to the other member."""
        self._log: deque[_Write] = deque()
        self._written = 0  # the position of the last write
        self._applied = 0  # the position up to which both members have them
        self._term = 1
        self._changed = asyncio.Condition()
        # One at a time, so that both databases see the writes in the same order; an election holds both.
        self._writing = asyncio.Lock()
        self._applying = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, folder: Path, lag_s: float = LAG_S, apart: timedelta = CLOCKS_APART
    ) -> AsyncIterator[ReplicaSet]:
        """Start two databases; the second one's clock is ahead of the first one's, who is primary, by `apart`."""
        async with contextlib.AsyncExitStack() as opened:
            first = Member(await opened.enter_async_context(mongo_server(folder / "first")), timedelta(0))
            second = Member(await opened.enter_async_context(mongo_server(folder / "second")), apart)
            found = cls(first, second, lag_s)
            for member in found._members:
                await opened.enter_async_context(member.serving(found._answer))
            replicating = asyncio.create_task(found._replicate(), name="replication")
            try:
                yield found
            finally:
                replicating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await replicating
                found._replication.close()

    @property
    def unreplicated(self) -> int:
        """How many acknowledged writes only the primary has."""
        return len(self._log)

    def url(self, database: str, options: str = "") -> str:
        """Where a driver finds it."""
        hosts = ",".join(member.address for member in self._members)
        return f"mongodb://{hosts}/{database}?replicaSet={NAME}{options}"

    def direct_urls(self) -> list[str]:
        """Where the members' databases are, past the simulation; the primary's is the first."""
        ordered = sorted(self._members, key=lambda member: member is not self.primary)
        return [f"mongodb://{member.database.address}/?directConnection=true&retryWrites=false" for member in ordered]

    # -- elections ------------------------------------------------------------------------------------------------

    async def step_down(self) -> None:
        """Have the other member elected, without waiting until it has everything; the old primary follows it then."""
        old, heir = await self._depose()
        await asyncio.sleep(ELECTION_S)
        self.primary = heir
        await self._follow(old)

    async def crash(self) -> None:
        """SIGKILL the primary's database, have the other member elected, and let the old one come back and follow."""
        assert self.primary is not None
        await asyncio.gather(self.primary.database.kill(), self.primary.disconnect())
        old, heir = await self._depose()
        await asyncio.sleep(ELECTION_S)
        self.primary = heir
        await old.database.ready()
        await self._follow(old)
        old.reconnect()

    @contextlib.contextmanager
    def lagging(self) -> Iterator[None]:
        """Let nothing reach the other member until the block is left, or an election has happened."""
        lag_s, self.lag_s = self.lag_s, float("inf")
        try:
            yield
        finally:
            self.lag_s = lag_s

    async def caught_up(self) -> None:
        """Return when both members have everything."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._applied == self._written)

    async def _depose(self) -> tuple[Member, Member]:
        async with self._writing, self._applying:
            old, heir = self.primary, self._secondary
            assert old is not None, "an election is under way"
            assert heir is not None, "the other member does not follow yet"
            self.primary = self._secondary = None
            self.rolled_back += len(self._log)
            self._term += 1
            await self._forget_log()
        return old, heir

    async def _follow(self, member: Member) -> None:
        """Roll a member back and bring it up to date, which is here: make it a copy of the primary."""
        async with self._writing:
            assert self.primary is not None
            await copy(self.primary.database, member.database)
            self._replication.close()
            self._replication = Upstream(member.database)
            self._secondary = member
            self._applied = self._written
            await self._forget_log()

    async def _forget_log(self) -> None:
        self._log.clear()
        async with self._changed:
            self._changed.notify_all()

    # -- replication ----------------------------------------------------------------------------------------------

    async def _replicate(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._secondary is not None and self._log)
            async with self._applying:
                while self._secondary is not None and self._log and self._log[0].at + self.lag_s <= loop.time():
                    await self._replication.ask(self._log[0].request)
                    self._applied = self._log.popleft().position
            async with self._changed:
                self._changed.notify_all()
            await asyncio.sleep(_REPLICATE_EVERY_S)

    async def _majority(self, position: int, term: int, timeout_s: float | None) -> dict[str, Any] | None:
        """Wait until both members have a write: None, or the error that says why not."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._applied >= position or self._term != term)
        except TimeoutError:
            return _TIMED_OUT
        return _STEPPED_DOWN if self._term != term else None

    # -- answers --------------------------------------------------------------------------------------------------

    async def _answer(self, member: Member, session: Session, request: Message) -> bytes:
        command = request.body
        name = next(iter(command))
        if name in _GREETINGS:
            return messages.answer(request, self._greeting(member, await session.ask(member, request)))
        if name in _ANSWERED_BY_ANY:
            return (await session.ask(member, request)).raw
        if member is not self.primary:
            return messages.answer(request, _NOT_PRIMARY)
        if name in _WRITES:
            return messages.answer(request, await self._write(member, session, request))
        if command.get("readConcern", {}).get("level") == "majority":
            return await self._read_committed(session, request)
        return (await session.ask(member, request)).raw

    async def _read_committed(self, session: Session, request: Message) -> bytes:
        if self._secondary is None:
            return messages.answer(request, _NO_SNAPSHOT)
        return (await session.ask(self._secondary, request)).raw

    async def _write(self, member: Member, session: Session, request: Message) -> dict[str, Any]:
        async with self._writing:
            if member is not self.primary:
                return _NOT_PRIMARY
            answer = (await session.ask(member, request)).body
            self._written += 1
            position, term = self._written, self._term
            self._log.append(_Write(position, asyncio.get_running_loop().time(), request))
            async with self._changed:
                self._changed.notify_all()
        # What refused a part of it, such as a duplicate, is waited for as well, as in MongoDB.
        concern = request.body.get("writeConcern", {})
        if concern.get("w", 1) in {0, 1}:
            return answer
        timeout_ms = concern.get("wtimeout", 0)
        problem = await self._majority(position, term, timeout_ms / 1000 if timeout_ms else None)
        return answer | ({"writeConcernError": problem} if problem else {})

    def _greeting(self, member: Member, own: Message) -> dict[str, Any]:
        """Turn a database's own greeting into a member's; without `topologyVersion`, a driver polls."""
        is_primary = member is self.primary
        primary = {} if self.primary is None else {"primary": self.primary.address}
        election = {"electionId": ObjectId(f"7fffffff{self._term:016x}")} if is_primary else {}
        return {
            **{key: value for key, value in own.body.items() if key != "topologyVersion"},
            "isWritablePrimary": is_primary,
            "ismaster": is_primary,
            "secondary": not is_primary,
            "setName": NAME,
            "setVersion": 1,
            "hosts": [each.address for each in self._members],
            "me": member.address,
            **primary,
            **election,
            "localTime": own.body["localTime"] + member.clock_ahead,
        }
