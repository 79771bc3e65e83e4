# ruff: noqa: T201 - its answer is what it prints
"""Run inside an api-server's container: remove the dead letters of a message, which a test has published."""

import json
import os
import sys
from pathlib import Path

from pymongo import MongoClient

message = sys.argv[1]
url = Path(os.environ["HASTY_API_MONGO_URL_FILE"]).read_text()
with MongoClient[dict[str, object]](url) as client:
    letters = client.get_default_database().dead_letters
    print(json.dumps({"removed": letters.delete_many({"data": message.encode()}).deleted_count}))
