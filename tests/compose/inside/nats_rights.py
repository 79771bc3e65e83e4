# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: which of the given subjects the broker refuses to the service's own user.

Arguments: the variable that names the file with the address, then `pub:SUBJECT` and `sub:SUBJECT`, as many as wanted.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats


async def main(url: str, *wishes: str) -> None:
    """Try one wish after the other and print those refused."""
    errors: list[str] = []

    async def on_error(error: Exception) -> None:
        errors.append(str(error).lower())

    client = await nats.connect(
        url,
        inbox_prefix=f"_INBOX_{urlsplit(url).username}",
        error_cb=on_error,
        allow_reconnect=False,
        skip_subject_validation=True,
    )
    for wish in wishes:
        kind, _, subject = wish.partition(":")
        if kind == "pub":
            await client.publish(subject, b"")
        else:
            await client.subscribe(subject)
    # The broker's refusals come before its answer to the ping of a flush.
    await client.flush()
    words = {"pub": "publish to", "sub": "subscription to"}
    refused = []
    for wish in wishes:
        kind, _, subject = wish.partition(":")
        if any(f'{words[kind]} "{subject.lower()}"' in error for error in errors):
            refused.append(wish)
    print(json.dumps(refused))
    await client.close()


variable, *subjects = sys.argv[1:]
asyncio.run(main(Path(os.environ[variable]).read_text(), *subjects))
