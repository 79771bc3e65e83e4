# ruff: noqa: T201 - its answer is what it prints
"""Run where a service's login is: publish a message to a subject, as it may.

Arguments: the variable that names the file with the address, the subject, and the message.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats


async def main(url: str, subject: str, message: str) -> None:
    """Return when the broker has it."""
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", max_reconnect_attempts=2)
    await client.publish(subject, message.encode())
    await client.flush(timeout=10)
    await client.close()
    print(json.dumps({"published": subject}))


variable, subject, message = sys.argv[1:]
asyncio.run(main(Path(os.environ[variable]).read_text(), subject, message))
