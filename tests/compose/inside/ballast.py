# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: write to its database until that is refused; what it said then.

A full disk is not noticed before the database's files have to grow. The service may write no collection but its own.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from bson import Binary
from pymongo import MongoClient
from pymongo.errors import PyMongoError

variable = next(name for name in ("HASTY_API_MONGO_URL_FILE", "HASTY_JOB_MONGO_URL_FILE") if name in os.environ)
with MongoClient[dict[str, object]](Path(os.environ[variable]).read_text()) as client:
    letters = client.get_default_database().dead_letters
    said = ""
    for _ in range(256):
        try:
            letters.insert_many(
                {"_id": token_hex(), "subject": "ballast", "at": datetime.now(UTC), "data": Binary(os.urandom(2**20))}
                for _ in range(4)
            )
        except PyMongoError as error:
            said = str(error)
            break
    print(json.dumps(said))
