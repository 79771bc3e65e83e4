"""The users of a service's database: one for the service, with a role of exactly what the service does.

As a program, `python -m hasty.server.database_users FILE` makes them in the database that the JSON file describes, with
a login of its administrator. It can be repeated at any time; a login that the file no longer names is removed.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from hasty.server.mongo import Mongo, StoreRefused, StoreUnavailable
from hasty.server.runtime import output

ACTIONS: Final = ("find", "insert", "update", "remove", "createCollection", "createIndex")
"""All that a service does in its own database. `ping` and `hello` need no right."""

PREPARED_WITHIN_S: Final = 120.0
ASK_AGAIN_S: Final = 0.5
CALL_TIMEOUT_S: Final = 5.0

# Administrators of ours, those of version 0.1 included. Nobody else's is touched.
_OUR_ROOTS: Final = re.compile(r"hasty(-root)?(-[0-9a-f]{8})?")


class Login(BaseModel, frozen=True):
    """A user and its password."""

    user: str
    password: str

    def url(self, address: str, database: str) -> str:
        """The address of a database with this login."""
        return f"mongodb://{quote(self.user)}:{quote(self.password)}@{address}/{database}?authSource=admin"


class Wanted(BaseModel, frozen=True):
    """Who may use the database of one service.

    The first of `roots` is the administrator; a second one is being replaced by it. `users` are the service's logins,
    two of them while one is being replaced.
    """

    address: str
    database: str
    roots: tuple[Login, ...] = ()
    users: tuple[Login, ...]


def role_of(database: str) -> str:
    """The role of the service that uses a database."""
    return f"{database}_service"


async def make_users(admin: Mongo, wanted: Wanted, *, set_passwords: bool = False) -> None:
    """Make the role and the users, and drop users of ours who are not wanted any more.

    A user who exists keeps its password, unless `set_passwords`: a change could end the connections of a service.

    Raises:
        StoreUnavailable: when the database fails.
    """
    role = role_of(wanted.database)
    privileges = [{"resource": {"db": wanted.database, "collection": ""}, "actions": list(ACTIONS)}]
    roles = (await admin.command({"rolesInfo": role}))["roles"]
    await admin.command({"updateRole" if roles else "createRole": role, "privileges": privileges, "roles": []})
    found = (await admin.command({"usersInfo": 1}))["users"]
    present = {user["user"]: {(one["role"], one["db"]) for one in user["roles"]} for user in found}
    for login in wanted.roots:
        if login.user not in present:
            await admin.command({"createUser": login.user, "pwd": login.password, "roles": ["root"]})
    for login in wanted.users:
        rights = {"roles": [{"role": role, "db": "admin"}]}
        if login.user not in present:
            await admin.command({"createUser": login.user, "pwd": login.password, **rights})
        elif set_passwords:
            await admin.command({"updateUser": login.user, "pwd": login.password, **rights})
        elif present[login.user] != {(role, "admin")}:
            await admin.command({"updateUser": login.user, **rights})
    kept = {login.user for login in (*wanted.roots, *wanted.users)}
    for user in found:
        if user["user"] not in kept and _is_ours(user, role, has_roots=bool(wanted.roots)):
            await admin.command({"dropUser": user["user"]})


def _is_ours(user: dict[str, Any], role: str, *, has_roots: bool) -> bool:
    roles = {one["role"] for one in user["roles"]}
    return roles == {role} or (has_roots and roles == {"root"} and _OUR_ROOTS.fullmatch(user["user"]) is not None)


async def make_users_of(wanted: Wanted, within_s: float = PREPARED_WITHIN_S) -> None:
    """Make the users over the network, as the first administrator who is let in; the database may still be starting.

    Raises:
        StoreUnavailable: when it does not succeed within `within_s` seconds.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        try:
            return await _make_as_any(wanted)
        except StoreUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(ASK_AGAIN_S)


async def _make_as_any(wanted: Wanted) -> None:
    for place, root in enumerate(wanted.roots, start=1):
        url = root.url(wanted.address, "admin")
        async with Mongo.opened(url, name="admin", indexes={}, timeout_s=CALL_TIMEOUT_S) as admin:
            try:
                await make_users(admin, wanted)
            except StoreRefused:
                if place == len(wanted.roots):
                    raise
            else:
                return


def read(path: Path) -> Wanted:
    """Read who is wanted.

    Raises:
        ValueError: when the file does not say it.
    """
    try:
        return Wanted.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {error.error_count()} mistakes in {error.title}") from None


def main(arguments: Sequence[str]) -> int:
    """Make the users of the database that a file describes; the exit code."""
    if len(arguments) != 1:
        print("usage: python -m hasty.server.database_users FILE", file=sys.stderr)  # noqa: T201
        return 2
    try:
        wanted = read(Path(arguments[0]))
        asyncio.run(make_users_of(wanted))
    except (OSError, ValueError, StoreUnavailable, TimeoutError) as error:
        print(f"the users of the database were not made: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{wanted.address}: {', '.join(user.user for user in wanted.users)} may use {wanted.database}")  # noqa: T201
    return 0


if __name__ == "__main__":
    output.discard_failed_writes()
    sys.exit(main(sys.argv[1:]))
