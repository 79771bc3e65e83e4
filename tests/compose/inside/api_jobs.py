# ruff: noqa: T201 - its answer is what it prints
"""Run inside an api-server's container: the jobs of the objects whose names begin so, and the dead letters."""

import json
import os
import sys
from pathlib import Path

from pymongo import MongoClient

prefix = sys.argv[1]
url = Path(os.environ["HASTY_API_MONGO_URL_FILE"]).read_text()
with MongoClient[dict[str, object]](url) as client:
    database = client.get_default_database()
    found = database.jobs.find(
        {"object_id": {"$gte": prefix, "$lt": prefix + "\uffff"}}, ["object_id", "status", "sleep_time_used"]
    )
    letters = [
        f"{letter['subject']}: {letter['reason']}: {letter['data']}"[:600] for letter in database.dead_letters.find()
    ]
    print(json.dumps({"jobs": list(found), "dead_letters": letters}))
