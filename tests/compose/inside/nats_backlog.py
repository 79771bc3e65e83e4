# ruff: noqa: T201 - its answer is what it prints
"""Run where the set-up login is: what the broker has not delivered or not heard of yet, by consumer."""

import asyncio
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import nats


async def main(url: str) -> None:
    """Ask as the user who made the consumers."""
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", max_reconnect_attempts=2)
    backlog = {}
    for consumer in ("job-created-group", "job-finished-group", "job-cancelled-group"):
        answer = await client.request(f"$JS.API.CONSUMER.INFO.JOBS.{consumer}", b"", timeout=2)
        info = json.loads(answer.data)
        backlog[consumer] = info["num_pending"] + info["num_ack_pending"]
    print(json.dumps(backlog))
    await client.close()


asyncio.run(main(Path(os.environ["HASTY_NATS_URL_FILE"]).read_text()))
