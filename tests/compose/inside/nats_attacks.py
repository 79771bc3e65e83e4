# ruff: noqa: T201 - its answer is what it prints
"""Run with a service's own login: publish to every subject it may publish to, with replies that would do harm.

The broker itself publishes to a reply subject, and does not ask whether the user may.

Arguments: the variable that names the file with the address; "store" to send messages that the stream keeps as well,
or "spare" not to; the subjects, as nats-server.conf permits them, as a JSON list.
Prints a JSON object: how many messages were `sent`, and which subjects the broker `refused`.
"""

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client

STREAMS = ("JOBS", "WORK")
# A kind named greet has been announced.
CONSUMERS = (
    *(f"JOBS.job-{name}-group" for name in ("created", "finished", "failed", "cancelled", "again", "cancel")),
    *("JOBS.kind-announced-group", "WORK.work-greet"),
)
NEXT = "$JS.API.CONSUMER.MSG.NEXT."
ACK = "$JS.ACK."

STREAM_CALLS = (
    *("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "MSG.GET", "SNAPSHOT", "RESTORE"),
    *("LEADER.STEPDOWN", "PEER.REMOVE"),
)
CONSUMER_CALLS = ("DELETE", "PAUSE", "RESET", "UNPIN", "LEADER.STEPDOWN", "DURABLE.CREATE", "CREATE", "MSG.NEXT")
REPLIES = (
    *(f"$JS.API.STREAM.{call}.{stream}" for call in STREAM_CALLS for stream in STREAMS),
    *(f"$JS.API.CONSUMER.{call}.{name}" for call in CONSUMER_CALLS for name in CONSUMERS),
    *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in STREAMS),
    "$JS.API.ACCOUNT.PURGE.STREAMS",
    "$JS.API.ACCOUNT.PURGE.$G",
    "$JS.API.META.LEADER.STEPDOWN",
    "$SYS.REQ.SERVER.PING",
    # An empty message acknowledges: a job would be done without ever being worked on.
    *(f"{ACK}{name}.1.{number}.{number}.1.0" for name in CONSUMERS for number in range(1, 6)),
    *(f"job:{event}" for event in ("created", "finished", "failed", "cancelled", "again", "cancel")),
    *("kind:announced", "work.greet"),
)

PULLS = (b'{"batch":1,"no_wait":true}', b'{"batch":3,"expires":50000000}', b"1", b"", b'{"batch":-1}')
ACKNOWLEDGEMENTS = (b"+WPI", b'+NXT {"batch":1,"no_wait":true}', b"-NAK", b"", b"+ACK", b"+TERM")
NOT_STORED = (
    {"Nats-Expected-Stream": "ANOTHER"},
    {"Nats-Rollup": "all"},
    {"Nats-Batch-Id": "attack", "Nats-Batch-Sequence": "7", "Nats-Batch-Commit": "1"},
)
STORED: tuple[dict[str, str], ...] = ({"Nats-Msg-Id": "attack"}, {"Nats-Msg-Id": "attack"}, {})


async def acknowledged(client: Client, consumer: str, user: str) -> str:
    """Where a message of the consumer is acknowledged: one that waits, or else one that never was."""
    inbox = f"_INBOX_{user}.attack.{consumer}"
    subscription = await client.subscribe(inbox)
    try:
        await client.publish(NEXT + consumer, PULLS[0], reply=inbox)
        async with asyncio.timeout(5):
            message = await subscription.next_msg(timeout=5)
        return message.reply or f"{ACK}{consumer}.1.1.1.1.0"
    finally:
        await subscription.unsubscribe()


async def main(url: str, stored: str, subjects: list[str]) -> None:  # long: a case for each kind of subject
    """Try every subject with every reply and every body that its subject understands."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        # The broker itself refuses replies that acknowledge.
        if "publish with reply of" not in str(error).lower():
            refused.append(str(error))

    user = str(urlsplit(url).username)
    client = await nats.connect(
        url,
        inbox_prefix=f"_INBOX_{user}",
        error_cb=on_error,
        max_reconnect_attempts=2,
        skip_subject_validation=True,
    )
    # Into a subject that the user may publish to anyway, a reply gets as well, and the stream keeps it.
    replies = [reply for reply in REPLIES if stored == "store" or reply.startswith("$")]
    sent = 0
    for permitted in subjects:
        subject = permitted
        headers: tuple[dict[str, str] | None, ...] = (None,)
        bodies: tuple[bytes, ...] = (b"",)
        if permitted.startswith(NEXT):
            # A pull without an end would take messages from the services for as long as it waits.
            bodies = PULLS if stored == "store" else PULLS[:2]
            subject = permitted.replace("*", "work-greet")
        elif permitted.startswith(ACK):
            bodies = ACKNOWLEDGEMENTS
            subject = await acknowledged(
                client, permitted.removeprefix(ACK).removesuffix(".>").replace("WORK", "WORK.work-greet"), user
            )
        elif permitted.startswith("$JS.ACK.*.*."):
            bodies = ACKNOWLEDGEMENTS
            subject = permitted.replace("*.*", "hub.hash").replace(">", "1.1.1.1.0")
        elif permitted.startswith(("job:", "kind:", "work.")):
            subject = permitted.replace("*", "greet")
            headers = (*NOT_STORED, *(STORED if stored == "store" else ()))
        elif permitted.endswith(">"):
            subject = permitted[:-1] + "job-created-group"
        for reply, body, head in itertools.product(replies, bodies, headers):
            await client.publish(subject, body, reply=reply, headers=head)
            sent += 1
    # What was sent has been obeyed, or not, when this is answered.
    await client.flush(timeout=10)
    print(json.dumps({"sent": sent, "refused": refused}))
    await client.close()


variable, stored, subjects = sys.argv[1:]
asyncio.run(main(Path(os.environ[variable]).read_text(), stored, json.loads(subjects)))
