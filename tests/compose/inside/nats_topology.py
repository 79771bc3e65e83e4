# ruff: noqa: T201 - its answer is what it prints
"""Run where the set-up login is: which streams and consumers there are, how they are configured, what was deleted."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats

STREAMS = {
    "JOBS": (
        *(f"job-{name}-group" for name in ("created", "finished", "failed", "cancelled", "again", "cancel")),
        "kind-announced-group",
    ),
    # Where that kind has been announced.
    "WORK": ("work-greet",),
}


async def main(url: str) -> None:
    """Ask as the user who made them."""
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", max_reconnect_attempts=2)

    async def ask(subject: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{subject}", b"", timeout=2)).data)
        return answer

    topology: dict[str, object] = {}
    for stream, consumers in STREAMS.items():
        info = await ask(f"STREAM.INFO.{stream}")
        topology[stream] = {key: info.get(key) for key in ("created", "config")}
        if stream == "JOBS":
            # From the other one, whoever does a turn removes it.
            topology["deleted"] = info["state"].get("num_deleted", 0)
        for consumer in consumers:
            info = await ask(f"CONSUMER.INFO.{stream}.{consumer}")
            topology[consumer] = {key: info.get(key) for key in ("created", "config", "paused")}
    print(json.dumps(topology))
    await client.close()


asyncio.run(main(Path(os.environ["HASTY_NATS_URL_FILE"]).read_text()))
