# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: write to its database until nothing is stored any more, or `remove` what was.

A database notices a full disk when its files have to grow: at first it refuses large writes and takes small ones.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from bson import Binary
from pymongo import MongoClient
from pymongo.errors import PyMongoError

WITHIN_S = 60
REFUSALS_IN_A_ROW = 20

variable = next(name for name in ("HASTY_API_MONGO_URL_FILE", "HASTY_JOB_MONGO_URL_FILE") if name in os.environ)
url = Path(os.environ[variable]).read_text()
# The service may write no collection but its own.
with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=1_000, socketTimeoutMS=5_000) as client:
    letters = client.get_default_database().dead_letters
    if sys.argv[1:] == ["remove"]:
        letters.delete_many({"subject": "ballast"})
    refused, said, deadline = 0, "", time.monotonic() + WITHIN_S
    while not sys.argv[1:] and refused < REFUSALS_IN_A_ROW and time.monotonic() < deadline:
        try:
            letters.insert_many(
                {"_id": token_hex(), "subject": "ballast", "at": datetime.now(UTC), "data": Binary(os.urandom(20_000))}
                for _ in range(20)
            )
            refused = 0
        except PyMongoError as error:
            refused, said = refused + 1, str(error)
    print(json.dumps({"refused": refused, "said": said}))
