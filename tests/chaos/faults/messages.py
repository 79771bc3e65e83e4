"""Messages that come twice, in another order, too late, for nobody, or that mean nothing."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from tests.chaos import facts
from tests.chaos.checker import DeadLetterDoc
from tests.chaos.history import Sent, run_clock
from tests.chaos.system import FaultKind, Injection, NotReached, System

SUBJECTS: Final = ("job:created", "job:finished", "job:cancelled")
_TOUCHES: Final = frozenset({"nats", "api-mongo", "job-mongo"})
_DEAD_LETTERED_WITHIN_S: Final = 20.0


async def _duplicated(system: System, hit: Injection) -> None:
    await _publish_again(system, hit, shuffled=False)


async def _reordered(system: System, hit: Injection) -> None:
    await _publish_again(system, hit, shuffled=True)


async def _publish_again(system: System, hit: Injection, *, shuffled: bool) -> None:
    """Publish the latest messages of the stream again, with new ids, so that the broker takes them for news."""
    client = await facts.connected(system.stack)
    try:
        messages = await _latest(client, hit.chance.randint(10, 40))
        if shuffled:
            hit.chance.shuffle(messages)
        hit.begins(f"{len(messages)} messages")
        why = "published again out of order" if shuffled else "published again"
        # One that meant nothing, or nobody, means it again.
        dead = {sent.data for sent in system.history.sent if sent.dead_letter}
        for subject, data in messages:
            about = json.loads(data)["job"]["job_id"]
            await _publish(client, system, subject, data, why, dead_letter=data in dead, about=about)
    finally:
        await client.close()


async def _latest(client: Client, count: int) -> list[tuple[str, bytes]]:
    js = client.jetstream(timeout=3)
    try:
        last_seq = (await js.stream_info(facts.STREAM)).state.last_seq
    except (NatsError, TimeoutError) as error:
        raise NotReached(f"no stream to read: {error}") from error
    found: list[tuple[str, bytes]] = []
    for seq in range(max(last_seq - count, 0) + 1, last_seq + 1):
        try:
            message = await js.get_msg(facts.STREAM, seq)
        except (NatsError, TimeoutError):
            continue
        if message.subject is not None and message.data is not None and _is_an_event(message.data):
            found.append((message.subject, message.data))
    if not found:
        raise NotReached("the stream holds no events")
    return found


def _is_an_event(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data)["job"]["job_id"], str)
    except (ValueError, KeyError, TypeError):
        return False


async def _garbage(system: System, hit: Injection) -> None:
    client = await facts.connected(system.stack)
    try:
        hit.begins("all three subjects")
        for subject in SUBJECTS:
            for data in hit.chance.sample(_malformed(subject, hit.chance), 3):
                await _publish(client, system, subject, data, "malformed", dead_letter=True)
    finally:
        await client.close()
    await _until_dead_lettered(system)


async def _for_nobody(system: System, hit: Injection) -> None:
    client = await facts.connected(system.stack)
    try:
        hit.begins("job:finished, job:cancelled")
        for subject in ("job:finished", "job:cancelled"):
            job_id = str(uuid.UUID(int=hit.chance.getrandbits(128), version=4))
            data = _outcome(subject, job_id, "nobody's", hit.chance.uniform(0, 50))
            await _publish(client, system, subject, data, "an outcome for nobody", dead_letter=True, about=job_id)
    finally:
        await client.close()
    await _until_dead_lettered(system)


async def _too_late(system: System, hit: Injection) -> None:
    """Contradict jobs that ended long ago: the other outcome, another length."""
    ended = [sight for sight in system.history.sights[-400:] if sight.status in {"finished", "cancelled"}]
    if not ended:
        raise NotReached("no job was seen to end yet")
    client = await facts.connected(system.stack)
    try:
        sights = hit.chance.sample(ended, min(5, len(ended)))
        hit.begins(f"{len(sights)} jobs")
        for sight in sights:
            subject = "job:cancelled" if sight.status == "finished" else "job:finished"
            data = _outcome(subject, sight.job_id, "a lie", 99.5, timestamp=sight.timestamp)
            await _publish(client, system, subject, data, "contradicts an ended job", about=sight.job_id)
    finally:
        await client.close()


async def _publish(
    client: Client, system: System, subject: str, data: bytes, why: str, *, dead_letter: bool = False, about: str = ""
) -> None:
    headers = {"Nats-Msg-Id": f"tester-{len(system.history.sent)}-{run_clock()}"}
    answer = json.loads((await client.request(subject, data, timeout=5, headers=headers)).data)
    if "error" in answer:
        raise NotReached(f"the broker refused the message: {answer['error']}")
    system.history.sent.append(Sent(run_clock(), subject, data, why, dead_letter, about))


async def _until_dead_lettered(system: System) -> None:
    """Wait until what was sent is dead-lettered; what is missing at the end is the checker's business."""
    wanted = {sent.data for sent in system.history.sent[-20:] if sent.dead_letter}
    deadline = run_clock() + _DEAD_LETTERED_WITHIN_S
    while run_clock() < deadline:
        found = await dead_letters(system)
        if wanted <= {doc.data for doc in found}:
            return
        await asyncio.sleep(0.3)


async def dead_letters(system: System) -> list[DeadLetterDoc]:
    """Read what both services dead-lettered."""
    return [*await facts.dead_letters(system.api, "hasty_api"), *await facts.dead_letters(system.job, "hasty_job")]


def _outcome(subject: str, job_id: str, object_id: str, sleep_s: float, timestamp: int = 1_700_000_000) -> bytes:
    job = {
        "id": job_id,
        "job_id": job_id,
        "object_id": object_id,
        "status": subject.partition(":")[2],
        "timestamp": timestamp,
        "sleep_time_used": round(sleep_s, 3),
    }
    return json.dumps({"subject": subject, "job": job}).encode()


def _malformed(subject: str, chance: random.Random) -> list[bytes]:
    """Make messages that mean nothing, each different from every other of the run."""
    mark = f"{chance.getrandbits(64):016x}"
    event: dict[str, Any] = json.loads(
        _outcome(subject, str(uuid.UUID(int=chance.getrandbits(128), version=4)), mark, 1)
    )
    job = event["job"]
    return [
        mark.encode(),
        bytes.fromhex(mark) + b"\xff\xfe\x00",
        json.dumps({"mark": mark}).encode(),
        json.dumps([mark] * 3).encode(),
        json.dumps({**event, "subject": "job:unheard-of"}).encode(),
        json.dumps({**event, "job": {**job, "job_id": mark}}).encode(),
        json.dumps({**event, "job": {**job, "sleep_time_used": "long"}}).encode(),
        json.dumps({**event, "job": {**job, "status": "asleep"}}).encode(),
        json.dumps({**event, "job": {**job, "object_id": mark + "\x00"}}).encode(),
        json.dumps({**event, "job": None}).encode()[:-1] + b"," + f'"mark": "{mark}"'.encode() + b"}",
        b'{"subject": "' + subject.encode() + b'", "job": {"sleep_time_used": NaN, "id": "' + mark.encode() + b'"}}',
        (mark + "[" * 500).encode(),
        (mark * 2000).encode(),
    ]


KINDS: Final = (
    FaultKind("messages duplicated", "the latest messages come again with new ids", _TOUCHES, _duplicated),
    FaultKind("messages reordered", "the latest messages come again in any order", _TOUCHES, _reordered),
    FaultKind("garbage", "messages that mean nothing, on every subject", _TOUCHES, _garbage),
    FaultKind("outcome for nobody", "outcomes of jobs that do not exist", _TOUCHES, _for_nobody),
    FaultKind("outcome too late", "contradicting outcomes of jobs that ended", _TOUCHES, _too_late),
)
