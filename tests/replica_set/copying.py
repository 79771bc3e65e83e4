"""Makes one database a copy of another, as a member of a replica set does that begins anew."""

from __future__ import annotations

from typing import Any

from pymongo import AsyncMongoClient

from hasty.server.local_stack import Child

_OWN = frozenset({"admin", "config", "local"})


def client(address: str) -> AsyncMongoClient[dict[str, Any]]:
    """Open a client of one server, whatever that says about a replica set."""
    return AsyncMongoClient(f"mongodb://{address}/?directConnection=true&retryWrites=false", tz_aware=True)


async def copy(source: Child, target: Child) -> None:
    """Make `target` hold what `source` holds, and nothing else."""
    async with client(source.address) as there, client(target.address) as here:
        for name in await here.list_database_names():
            if name not in _OWN:
                await here.drop_database(name)
        for name in await there.list_database_names():
            if name in _OWN:
                continue
            for collection in await there[name].list_collection_names():
                indexes = [dict(index) async for index in await there[name][collection].list_indexes()]
                await here[name].command({"createIndexes": collection, "indexes": indexes})
                if documents := await there[name][collection].find().to_list():
                    await here[name][collection].insert_many(documents)


async def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Read all documents of a server, by database and collection, in the order of their ids."""
    async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as server:
        return {
            f"{name}.{collection}": await server[name][collection].find().sort("_id", 1).to_list()
            for name in await server.list_database_names()
            if name not in _OWN
            for collection in sorted(await server[name].list_collection_names())
        }
