# ruff: noqa: T201 - its answer is what it prints
"""Run inside a service's container: which of the given subjects the broker refuses to the service's own user.

Arguments: the variable that names the file with the address, then `pub:SUBJECT` and `sub:SUBJECT`, as many as wanted;
`{me}` stands for the user's name.
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
    all_told = asyncio.Event()

    async def on_error(error: Exception) -> None:
        errors.append(str(error).lower())
        if "forbidden-to-all" in errors[-1]:
            all_told.set()

    user = urlsplit(url).username
    wishes = tuple(wish.replace("{me}", str(user)) for wish in wishes)
    client = await nats.connect(
        url,
        inbox_prefix=f"_INBOX_{user}",
        error_cb=on_error,
        max_reconnect_attempts=2,
        skip_subject_validation=True,
    )
    for wish in (*wishes, "pub:forbidden-to-all"):
        kind, _, subject = wish.partition(":")
        if kind == "pub":
            await client.publish(subject, b"")
        else:
            await client.subscribe(subject)
    # Refusals come in the order of what is refused.
    async with asyncio.timeout(5):
        await all_told.wait()
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
