# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: what its login on its database may do, of what it should and should not.

Argument: the variable that names the file with the address. Prints two JSON lists: what was `done` and what `refused`.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure

UNAUTHORIZED = 13

with MongoClient[dict[str, object]](Path(os.environ[sys.argv[1]]).read_text()) as client:
    own = client.get_default_database()
    other = client["hasty_job" if own.name == "hasty_api" else "hasty_api"]
    everything: dict[str, Callable[[], object]] = {
        "ping": lambda: own.command("ping"),
        "hello": lambda: own.command("hello"),
        "insert": lambda: own.trial.insert_one({"_id": 1}),
        "find": lambda: list(own.trial.find()),
        "aggregate": lambda: list(own.trial.aggregate([{"$match": {}}])),
        "update": lambda: own.trial.update_one({"_id": 1}, {"$set": {"a": 1}}),
        "index": lambda: own.trial.create_index("a"),
        "remove": lambda: own.trial.delete_many({}),
        "drop collection": own.trial.drop,
        "drop database": lambda: client.drop_database(own.name),
        "drop index": lambda: own.trial.drop_index("a_1"),
        "list collections": own.list_collection_names,
        "list databases": client.list_database_names,
        "insert elsewhere": lambda: other.trial.insert_one({}),
        "find elsewhere": lambda: list(other.trial.find()),
        "write out elsewhere": lambda: list(own.trial.aggregate([{"$out": {"db": other.name, "coll": "trial"}}])),
        "find users": lambda: list(client.admin["system.users"].find()),
        "list users": lambda: client.admin.command("usersInfo", 1),
        "create user": lambda: client.admin.command({"createUser": "intruder", "pwd": "x", "roles": ["root"]}),
        "create role": lambda: client.admin.command("createRole", "intruder", privileges=[], roles=["root"]),
        "grant root": lambda: client.admin.command("grantRolesToUser", own.name, roles=["root"]),
        "change password": lambda: client.admin.command({"updateUser": "hasty-root", "pwd": "x"}),
        "server status": lambda: client.admin.command("serverStatus"),
        "insert into admin": lambda: client.admin.trial.insert_one({}),
        "insert into local": lambda: client.local.trial.insert_one({}),
    }
    done, refused = [], []
    for name, attempt in everything.items():
        try:
            attempt()
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            refused.append(name)
        else:
            done.append(name)
print(json.dumps({"done": done, "refused": refused}))
