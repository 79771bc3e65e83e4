"""A service's database. The only use of motor.

Commands are sent as they stand in MongoDB's manual rather than through the collections' methods: a batch of inserts or
updates is one command and one journal sync, and refused members come back as data instead of exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from hasty.jobs import DeadLetter
from hasty.server.runtime.logs import get_logger

log = get_logger(__name__)

DUPLICATE_KEY: Final = 11000
COMMITTED: Final = {"level": "majority"}
"""The read concern of what no election can take back; see decision 0018."""

DEAD_LETTERS_KEPT_S: Final = 30 * 24 * 3600
WRITE_PROOF_S: Final = 5.0
"""For so long a confirmed write proves that the database writes."""

T = TypeVar("T")
Document = dict[str, Any]
Indexes = Mapping[str, Sequence[Mapping[str, object]]]
"""For each collection, its indexes as `createIndexes` takes them."""

_DEAD_LETTERS: Final[Indexes] = {
    "dead_letters": [{"key": {"at": 1}, "name": "expire", "expireAfterSeconds": DEAD_LETTERS_KEPT_S}]
}


class StoreUnavailable(Exception):
    """The database cannot be reached, or did not answer in time; whether it acted is unknown."""


class StoreRefused(StoreUnavailable):
    """The database answers, and says that it cannot do it."""


class ServerTime(NamedTuple):
    """The time by the clock of a replica set's `member`; a standalone server has no name."""

    at: datetime
    member: str


class Mongo:
    """One database. Every method raises `StoreUnavailable` when the database fails it in any way."""

    def __init__(self, client: AsyncIOMotorClient[Document], default: str, indexes: Indexes, timeout_s: float) -> None:
        self._database = client.get_default_database(default)
        # A bare command does not take the client's options, and its dates would come without their zone.
        self._codec = self._database.codec_options
        self._durable = write_concern(client.write_concern.document, timeout_s)
        self._indexes = {**indexes, **_DEAD_LETTERS}
        self._timeout_s = timeout_s
        self._prepared = False
        self._written_at = float("-inf")

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, url: str, *, name: str, indexes: Indexes, timeout_s: float) -> AsyncIterator[Mongo]:
        """Open the database at `url`, or `name` there if it names none; it need not be reachable yet.

        `timeout_s` is the longest a command may take.

        Raises:
            ValueError: when the URL is not one of MongoDB's; the text does not repeat it.
        """
        try:
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                url,
                appname=name,
                tz_aware=True,
                # A repeated insert is recognised by its own id instead; standalone servers know no retryable writes.
                retryWrites=False,
                serverSelectionTimeoutMS=1500,
                connectTimeoutMS=1500,
                socketTimeoutMS=int(timeout_s * 1000),
                heartbeatFrequencyMS=2000,
                maxPoolSize=16,
            )
        except (ConfigurationError, PyMongoError) as error:
            raise ValueError(f"not a MongoDB URL: {error}") from None
        try:
            mongo = cls(client, name, indexes, timeout_s)
            if reason := _below_majority(mongo._durable["w"]):
                log.warning("write_concern_below_majority", database=name, reason=reason)
            yield mongo
        finally:
            client.close()

    async def ping(self) -> None:
        """Prove that the database answers."""
        await self.command({"ping": 1})

    async def prove_writes(self, max_age_s: float = WRITE_PROOF_S) -> None:
        """Prove that the database writes: by a write, unless one was confirmed in the last `max_age_s` seconds."""
        if asyncio.get_running_loop().time() - self._written_at < max_age_s:
            await self.ping()
        else:
            await self.update("probes", {"q": {"_id": "write"}, "u": {"$inc": {"count": 1}}, "upsert": True})

    async def server_time(self) -> ServerTime:
        """Return the database's own time, by the clock of the primary."""
        answer = await self.command({"hello": 1})
        return ServerTime(answer["localTime"], answer.get("me", ""))

    async def find(
        self,
        collection: str,
        criteria: Mapping[str, object],
        projection: Mapping[str, int] | None = None,
        *,
        uncommitted: bool = False,
        **options: Any,
    ) -> list[Document]:
        """Return the documents that match; every query is bounded by its caller, by a list of ids or by a limit.

        With `uncommitted`, what an election may still take back is seen as well, and nothing is ever missed.
        """
        command: Document = {"find": collection, "filter": criteria, **options}
        if not uncommitted:
            command["readConcern"] = COMMITTED
        if projection is not None:
            command["projection"] = projection
        command.setdefault("batchSize", 100_000)
        command["singleBatch"] = True
        answer = await self.command(command)
        rows: list[Document] = answer["cursor"]["firstBatch"]
        return rows

    async def insert(self, collection: str, documents: Sequence[Document]) -> list[Document]:
        """Insert documents, durable when this returns; those that were refused because their key exists."""
        answer = await self._write({"insert": collection, "documents": documents, "ordered": False})
        errors = answer.get("writeErrors", ())
        for error in errors:
            if error["code"] != DUPLICATE_KEY:
                raise StoreRefused(f"insert refused: {error.get('errmsg')}")
        return [documents[error["index"]] for error in errors]

    async def update(self, collection: str, *statements: Document) -> Document:
        """Update documents, durable when this returns; the command's answer, with `n` and `nModified`."""
        answer = await self._write({"update": collection, "updates": statements})
        for error in answer.get("writeErrors", ()):
            raise StoreRefused(f"update refused: {error.get('errmsg')}")
        return answer

    async def delete(self, collection: str, criteria: Mapping[str, object]) -> None:
        """Delete the document that matches, if there is one."""
        await self._write({"delete": collection, "deletes": [{"q": criteria, "limit": 1}]})

    async def delete_all(self, collection: str, ids: Sequence[str]) -> None:
        """Delete the documents with these ids, durable when this returns."""
        await self._write({"delete": collection, "deletes": [{"q": {"_id": {"$in": list(ids)}}, "limit": 0}]})

    async def dead_letter(self, letters: Sequence[DeadLetter], at: datetime) -> None:
        """Store messages that cannot be processed where they can be read, for 30 days."""
        await self.prepare()
        # A message that is here already was stored before its last acknowledgement was lost.
        await self.insert("dead_letters", [{**to_document(letter, key="key"), "at": at} for letter in letters])

    async def prepare(self) -> None:
        """Make the indexes before the first use, and again after any failure: the database may be a new one.

        Several at once make them several times: no caller waits for another's failure.
        """
        if self._prepared:
            return
        for collection, indexes in self._indexes.items():
            await self._confirmed({"createIndexes": collection, "indexes": indexes})
        self._prepared = True

    async def command(self, command: Document) -> Document:
        """Send a command and return its answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return dict(await self._database.command(command, codec_options=self._codec))
                except ServerSelectionTimeoutError:
                    raise
                except AutoReconnect:
                    # A lost connection, or a server that is no longer primary: the new one is waited for and asked.
                    # Every command here may be repeated: ids are made by the caller, and updates are conditional.
                    return dict(await self._database.command(command, codec_options=self._codec))
        except OperationFailure as error:
            self._prepared = False
            raise StoreRefused(str((error.details or {}).get("errmsg", error))) from error
        except (PyMongoError, TimeoutError) as error:
            self._prepared = False
            raise StoreUnavailable(str(error) or f"no answer within {self._timeout_s:g} s") from error

    async def _write(self, command: Document) -> Document:
        self._written_at = float("-inf")
        answer = await self._confirmed(command)
        self._written_at = asyncio.get_running_loop().time()
        return answer

    async def _confirmed(self, command: Document) -> Document:
        """Send a command that changes something; it is durable when this returns."""
        command["writeConcern"] = self._durable
        answer = await self.command(command)
        if problem := answer.get("writeConcernError"):
            # Some members have it; it may be confirmed or rolled back later: unknown, as when no answer came.
            raise StoreUnavailable(f"not durable: {problem.get('codeName')}: {problem.get('errmsg')}")
        return answer


def write_concern(asked: Mapping[str, Any], timeout_s: float) -> Document:
    """Give the write concern of every write, from what the URL asks for: a majority's journals, unless it names a `w`.

    A standalone server is a majority of its own. `wtimeout` comes before the command's own timeout, so that an answer
    says what happened.
    """
    concern = {"w": "majority", "wtimeout": int(timeout_s * 800), **asked, "j": True}
    return {**concern, "w": concern["w"] or 1}  # with w=0 it would be unknown what was stored


def _below_majority(w: int | str) -> str | None:
    """Say what a write concern may lose that need not be a majority; None when it is one for certain.

    How many members the replica set has is known later, and may change: of two, `w=2` is a majority, of five it is not.
    """
    if w == "majority":
        return None
    if w == 1:
        waits_for = "no other member"
    elif isinstance(w, int):
        waits_for = f"{w} members, less than a majority of {2 * w} or more"
    else:
        waits_for = "the members with a tag, which may be less than a majority"
    return (
        f"w={w} in its URL waits for {waits_for}: an election in a replica set may lose writes that were confirmed, and"
        " with them jobs; remove it from the URL"
    )


def to_document(value: Any, *, key: str) -> Document:
    """Write a dataclass as a document: its field `key` becomes `_id`, the others keep their names."""
    document = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {"_id": document.pop(key), **document}


def from_document(cls: type[T], row: Document, *, key: str, **converted: object) -> T:
    """Read a dataclass from a document, as `to_document` writes it; fields that are missing have their defaults."""
    fields_of: Mapping[str, object] = vars(cls)["__dataclass_fields__"]
    values = {name: row[name] for name in fields_of if name in row}
    return cls(**{**values, key: row["_id"], **converted})
