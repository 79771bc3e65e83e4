"""The users of a database, on a real server that asks for a login: who may do what, and what a repetition changes."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from api_server.store import DATABASE, INDEXES
from hasty.server.database_users import Login, Wanted, make_users, make_users_of, read
from hasty.server.mongo import Mongo, StoreRefused, StoreUnavailable
from tests.servers import asking_mongo_server


def login(user: str) -> Login:
    """A login of this user, with a password of its own."""
    return Login(user=user, password=secrets.token_urlsafe())


ROOT = login("hasty-root")
NEW_ROOT = login("hasty-root-0123abcd")
SERVICE = login("api-server")
NEW_SERVICE = login("api-server-0123abcd")


@asynccontextmanager
async def opened(who: Login, address: str, database: str = DATABASE) -> AsyncIterator[Mongo]:
    """A database with a login."""
    async with Mongo.opened(who.url(address, database), name="x", indexes=INDEXES, timeout_s=5) as mongo:
        yield mongo


@pytest_asyncio.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """A database server that asks for a login, with an administrator and nobody else."""
    async with asking_mongo_server(tmp_path, ROOT) as server:
        yield server.address


def wanted(address: str, *users: Login, roots: tuple[Login, ...] = (ROOT,)) -> Wanted:
    """Who may use the api-servers' database."""
    return Wanted(address=address, database=DATABASE, roots=roots, users=users)


async def may_write(who: Login, address: str) -> bool:
    """Whether somebody is let in and may write."""
    async with opened(who, address) as mongo:
        try:
            await mongo.prove_writes(max_age_s=0)
        except StoreRefused:
            return False
    return True


async def test_service_may_do_what_it_does_and_no_more(address: str) -> None:
    """Its indexes, documents and dead letters; neither another database nor users nor the removal of a collection."""
    await make_users_of(wanted(address, SERVICE))

    async with opened(SERVICE, address) as mongo:
        await mongo.prepare()
        await mongo.ping()
        await mongo.server_time()
        assert await mongo.insert("jobs", [{"_id": 1, "object_id": "x", "run": 1}]) == []
        await mongo.update("jobs", {"q": {"_id": 1}, "u": {"$set": {"a": 1}}})
        assert await mongo.find("jobs", {"a": 1}) == [{"_id": 1, "object_id": "x", "run": 1, "a": 1}]
        await mongo.delete("jobs", {"_id": 1})
        for refused in ({"drop": "jobs"}, {"dropDatabase": 1}, {"usersInfo": 1}, {"dropIndexes": "jobs", "index": "*"}):
            with pytest.raises(StoreRefused, match="not authorized"):
                await mongo.command(refused)
    async with opened(SERVICE, address, "hasty_job") as elsewhere:
        with pytest.raises(StoreRefused, match="not authorized"):
            await elsewhere.find("outcomes", {})
    async with opened(SERVICE, address, "admin") as admin:
        with pytest.raises(StoreRefused, match="not authorized"):
            await admin.command({"grantRolesToUser": SERVICE.user, "roles": ["root"]})


async def test_users_can_be_made_again_at_any_time(address: str) -> None:
    """As at each start of the containers; a connection that is open stays."""
    await make_users_of(wanted(address, SERVICE))
    async with opened(SERVICE, address) as mongo:
        await mongo.prove_writes(max_age_s=0)
        await make_users_of(wanted(address, SERVICE))
        await mongo.prove_writes(max_age_s=0)


async def test_rotated_logins_overlap_and_then_end(address: str) -> None:
    """Both are let in while one replaces the other; afterwards the old ones are not, the administrator's neither."""
    await make_users_of(wanted(address, SERVICE))

    await make_users_of(wanted(address, NEW_SERVICE, SERVICE, roots=(NEW_ROOT, ROOT)))
    assert await may_write(SERVICE, address)
    assert await may_write(NEW_SERVICE, address)

    await make_users_of(wanted(address, NEW_SERVICE, roots=(NEW_ROOT,)))
    assert not await may_write(SERVICE, address)
    assert await may_write(NEW_SERVICE, address)
    async with opened(ROOT, address, "admin") as admin:
        with pytest.raises(StoreRefused):
            await admin.command({"usersInfo": 1})


async def test_login_of_0_1_is_no_administrator_after_rotation(address: str) -> None:
    """It had the administrator's login, `hasty`; that works until it is rotated out."""
    old = login("hasty")
    async with opened(ROOT, address, "admin") as admin:
        await admin.command({"createUser": old.user, "pwd": old.password, "roles": ["root"]})

    await make_users_of(wanted(address, SERVICE, roots=(NEW_ROOT, old)))
    assert await may_write(old, address)

    await make_users_of(wanted(address, SERVICE, roots=(NEW_ROOT,)))
    assert not await may_write(old, address)
    assert await may_write(SERVICE, address)


async def test_users_of_others_are_left_alone(address: str) -> None:
    """An operator may have an administrator of its own."""
    theirs = login("ada")
    async with opened(ROOT, address, "admin") as admin:
        await admin.command({"createUser": theirs.user, "pwd": theirs.password, "roles": ["root"]})

        await make_users(admin, wanted(address, SERVICE))

    assert await may_write(theirs, address)


async def test_users_are_made_as_soon_as_the_database_answers(tmp_path: Path) -> None:
    """The containers start at the same time; one that never answers is given up on, by name."""
    nobody = wanted("127.0.0.1:1", SERVICE)
    with pytest.raises(StoreUnavailable):
        await make_users_of(nobody, within_s=0.1)

    async with asking_mongo_server(tmp_path, ROOT) as server:
        await server.stay_down()
        making = asyncio.create_task(make_users_of(wanted(server.address, SERVICE), within_s=60))
        await server.start()
        await making
        assert await may_write(SERVICE, server.address)


def test_file_that_names_no_users_is_refused(tmp_path: Path) -> None:
    """Without the passwords in it."""
    (tmp_path / "wanted.json").write_text('{"database": "x", "users": [{"user": "a", "password": ["s3cret"]}]}')

    with pytest.raises(ValueError, match=r"wanted\.json: 2 mistakes") as refused:
        read(tmp_path / "wanted.json")
    assert "s3cret" not in str(refused.value)
