# ruff: noqa: INP001, T201 - read by a service's own Python on standard input; it speaks on standard output
"""Gives the database the new password of a rotation, inside the container of the service that owns it.

The new address is where the service will read it, the old one beside it, as *.previous. Done already is fine.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure

AUTHENTICATION_FAILED = 18


def accepts(url: str) -> bool:
    """Whether the database lets this address in; any other trouble is raised."""
    try:
        with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=5000) as client:
            client.admin.command("listDatabases")
    except OperationFailure as error:
        if error.code == AUTHENTICATION_FAILED:
            return False
        raise
    return True


path = Path(os.environ.get("HASTY_API_MONGO_URL_FILE") or os.environ["HASTY_JOB_MONGO_URL_FILE"])
new = path.read_text()
if accepts(new):
    print("the database has the new password already")
else:
    login = urlsplit(new)
    with MongoClient[dict[str, object]](path.with_name(f"{path.name}.previous").read_text()) as client:
        client.admin.command("updateUser", login.username, pwd=login.password)
    print("the database has the new password now")
