# ruff: noqa: INP001, T201 - read by a service's own Python on standard input; it speaks on standard output
"""One half of a rotation, inside the container of the service that owns the database: `add` or `drop`.

The new address is where the service will read it, the old one beside it, as *.previous. Done already is fine.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure

AUTHENTICATION_FAILED = 18
USER_NOT_FOUND = 11

path = Path(os.environ.get("HASTY_API_MONGO_URL_FILE") or os.environ["HASTY_JOB_MONGO_URL_FILE"])
new = path.read_text()
old = path.with_name(f"{path.name}.previous").read_text()


def lets_in(url: str) -> bool:
    """Whether the database accepts this login; any other trouble is raised."""
    try:
        with MongoClient[dict[str, object]](url) as client:
            client.admin.command("listDatabases")
    except OperationFailure as error:
        if error.code == AUTHENTICATION_FAILED:
            return False
        raise
    return True


match sys.argv[1:]:
    case ["add"]:
        if not lets_in(new):
            with MongoClient[dict[str, object]](old) as client:
                login = urlsplit(new)
                client.admin.command("createUser", login.username, pwd=login.password, roles=["root"])
        print("the database knows the new user")
    case ["drop"]:
        with MongoClient[dict[str, object]](new) as client:
            try:
                client.admin.command("dropUser", urlsplit(old).username)
            except OperationFailure as error:
                if error.code != USER_NOT_FOUND:
                    raise
        print("the database has forgotten the old user")
    case _:
        sys.exit("usage: mongo_users.py add|drop")
