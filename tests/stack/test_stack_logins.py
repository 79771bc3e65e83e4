"""Who else is on the machine cannot use the stack's broker and databases, nor read what they keep."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from hasty.server.local_stack import Child, Stack, StackError
from hasty.server.local_stack.logins import FILE, logins_in
from tests.eventually import eventually
from tests.servers import mongo_server
from tests.stack.stacks import config, works_in

STORES = ("nats", "api-mongo", "job-mongo")
OWN: dict[str, Any] = {"nats_url": None, "api_mongo_url": None, "job_mongo_url": None}


def modes(folder: Path) -> dict[str, str]:
    """The permissions of what is in a folder, by name."""
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def passwords(folder: Path) -> list[str]:
    """All passwords of a stack."""
    return [login["password"] for login in json.loads((folder / FILE).read_text()).values()]


async def greeted_without_login(broker: Child) -> str:
    """All that a broker says to a client that names no user, until it closes the connection."""
    host, _, port = broker.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        return (await asyncio.wait_for(reader.read(), 10)).decode()
    finally:
        writer.close()
        await writer.wait_closed()


async def count(database: Child, url: str | None = None) -> int:
    """How many documents a database has in a collection, by its own login or another."""
    async with AsyncMongoClient[dict[str, Any]](url or database.url) as client:
        return await client.get_default_database().things.count_documents({})


async def keep(database: Child, number: int) -> None:
    """Keep one more document."""
    async with AsyncMongoClient[dict[str, Any]](database.url) as client:
        await client.get_default_database().things.insert_one({"_id": number})


async def test_broker_and_databases_let_nobody_in_without_a_login(tmp_path: Path) -> None:
    """Nor with another part's; streams are listed on no port that asks for none."""
    async with Stack.running(config(tmp_path, **OWN)) as stack:
        broker, *databases = (stack.children[name] for name in STORES)
        assert "Authorization Violation" in await greeted_without_login(broker)
        assert len(broker.part.ports) == 1
        for database, other in zip(databases, reversed(databases), strict=True):
            assert await count(database) == 0
            for url in (
                f"mongodb://{database.address}/hasty_api",
                other.url.replace(other.address, database.address),
            ):
                with pytest.raises(OperationFailure, match="authentication"):
                    await count(database, url)


async def test_a_databases_login_is_no_administrator(tmp_path: Path) -> None:
    """It has the rights that it has in the containers."""
    async with (
        Stack.running(config(tmp_path, **OWN)) as stack,
        AsyncMongoClient[dict[str, Any]](stack.children["api-mongo"].url) as client,
    ):
        own = client.get_default_database()
        await own.things.insert_one({})
        for attempt in (own.things.drop, client.list_database_names, client.hasty_job.things.drop):
            with pytest.raises(OperationFailure, match="not authorized"):
                await attempt()


async def test_nobody_else_may_read_the_folders(tmp_path: Path) -> None:
    """Data, configuration and logs are the owner's; no password is where others can read it."""
    folder = tmp_path / "stack"
    async with Stack.running(config(folder, **OWN)):
        found = modes(folder)
        assert {found[name] for name in ("data", "logs", *STORES, "nginx")} == {"0o700"}
        assert set(modes(folder / "data").values()) == {"0o700"}
        assert found[FILE] == "0o600"
        assert modes(folder / "nats")["nats.conf"] == "0o600"
        assert modes(folder / "api-mongo")["users.json"] == "0o600"
        lines = [" ".join(psutil.Process(pid).cmdline()) for pid in works_in(folder)]
        readable = [(folder / "stack.json").read_text(), *lines]
        logs = [log.read_text(errors="replace") for log in (folder / "logs").iterdir() if log.stem in STORES]
    assert len(lines) >= len(STORES)
    for password in passwords(folder):
        assert not [text for text in (*readable, *logs) if password in text]


async def test_folder_of_version_0_1_gets_logins_in_place(tmp_path: Path) -> None:
    """Its databases had none, and everybody could enter its folders; what it kept stays."""
    async with mongo_server(tmp_path) as server:
        await keep(server, 1)
    for path in (tmp_path / "data", tmp_path / "data" / "api-mongo", tmp_path / "logs", tmp_path / "api-mongo"):
        path.chmod(0o755)

    async with Stack.running(config(tmp_path, **OWN)) as stack:
        database = stack.children["api-mongo"]
        assert await count(database) == 1
        with pytest.raises(OperationFailure, match="authentication"):
            await count(database, f"mongodb://{database.address}/hasty_api")
        found = modes(tmp_path)
    assert {found[name] for name in ("data", "logs", "api-mongo")} == {"0o700"}
    assert modes(tmp_path / "data")["api-mongo"] == "0o700"


async def test_logins_stay_and_lost_ones_are_replaced(tmp_path: Path) -> None:
    """From start to start, and without them, new ones fit the data that is there."""
    async with Stack.running(config(tmp_path, **OWN)) as stack:
        await keep(stack.children["api-mongo"], 1)
        urls = {name: stack.children[name].url.rpartition("@")[0] for name in STORES}
    async with Stack.running(config(tmp_path, **OWN)) as stack:
        assert {name: stack.children[name].url.rpartition("@")[0] for name in STORES} == urls
        assert await count(stack.children["api-mongo"]) == 1
    (tmp_path / FILE).unlink()
    async with Stack.running(config(tmp_path, **OWN)) as stack:
        assert stack.children["api-mongo"].url.rpartition("@")[0] != urls["api-mongo"]
        assert await count(stack.children["api-mongo"]) == 1


async def test_wiped_database_gets_its_users_again(tmp_path: Path) -> None:
    """They were lost with its data."""
    async with Stack.running(config(tmp_path, **OWN)) as stack:
        database = stack.children["job-mongo"]
        await keep(database, 1)
        await database.stay_down()
        database.wipe()
        await database.start()
        await database.ready()

        async def counted() -> bool:
            try:
                return await count(database) == 0
            except OperationFailure:  # its users come a moment after it is ready
                return False

        await eventually(counted)


def test_file_without_logins_is_one_line(tmp_path: Path) -> None:
    """It says which file, and what to do."""
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StackError, match=r"does not hold logins \(1 mistakes\): remove it"):
        logins_in(tmp_path)
