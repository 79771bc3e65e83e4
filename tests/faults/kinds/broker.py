"""The broker: restarted, frozen, and relieved of what it kept."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any, Final

from tests.faults import facts
from tests.faults.ground import Ground, Hit, Kind, NotReached, last
from tests.faults.kinds.processes import WATCHDOG

if TYPE_CHECKING:
    from pathlib import Path

    from local_stack import Child

_BROKER: Final = frozenset({"nats"})


async def _killed(ground: Ground, hit: Hit) -> None:
    hit.begins("nats", "SIGKILL")
    await ground.killed([ground.stack.children["nats"]])


async def _restarted(ground: Ground, hit: Hit) -> None:
    broker = ground.stack.children["nats"]
    hit.begins("nats", "SIGTERM")
    await broker.terminate()
    await broker.start()
    await broker.ready(60)


async def _frozen(ground: Ground, hit: Hit) -> None:
    broker = ground.stack.children["nats"]
    for child in ground.children("api-server", "job-server"):
        ground.allow(child, WATCHDOG)
    hit.begins("nats")
    broker.pause()
    try:
        await last(hit, 1.5, 5)
    finally:
        broker.resume()


async def _consumers_deleted(ground: Ground, hit: Hit) -> None:
    gone = hit.chance.sample(facts.DURABLES, hit.chance.randint(1, 3))
    client = await facts.connected(ground.stack)
    try:
        hit.begins(", ".join(gone))
        for durable in gone:
            await client.request(f"$JS.API.CONSUMER.DELETE.{facts.STREAM}.{durable}", b"", timeout=3)
    finally:
        await client.close()


async def _stream_deleted(ground: Ground, hit: Hit) -> None:
    client = await facts.connected(ground.stack)
    try:
        hit.begins(facts.STREAM)
        await client.request(f"$JS.API.STREAM.DELETE.{facts.STREAM}", b"", timeout=3)
    finally:
        await client.close()


async def _wiped(ground: Ground, hit: Hit) -> None:
    broker = ground.stack.children["nats"]
    hit.begins("nats")
    await broker.stay_down()
    await asyncio.to_thread(empty, ground.data / "nats")
    await broker.start()
    await broker.ready(60)


async def _disk_full(ground: Ground, hit: Hit) -> None:
    """Healed by room and a restart: a broker that met a full disk does not come back by itself."""
    broker, disk = ground.stack.children["nats"], ground.disks["nats"]
    before = _refusals(broker)
    hit.begins("nats")
    await disk.fill()
    try:
        await last(hit, 2, 4)
    finally:
        await disk.free()
        await broker.kill()
    await broker.ready(60)
    if _refusals(broker) == before:
        raise NotReached("the broker wrote nothing while its disk was full")


def _refusals(broker: Child) -> int:
    """Count what the broker complained about its disk."""
    return broker.log.read_text(encoding="utf-8", errors="replace").count("no space left on device")


def empty(folder: Path) -> None:
    """Remove what a folder holds; the folder itself may be a disk."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def needs_disk(child: str) -> Any:
    """Give the obstacle to filling this child's disk, if there is one."""

    def obstacle(ground: Ground) -> str:
        return "" if child in ground.disks else ground.no_disks or f"{child} has no disk of its own in this run"

    return obstacle


KINDS: Final = (
    Kind("broker killed", "SIGKILL of the broker", _BROKER, _killed),
    Kind("broker restarted", "the broker is shut down and started again", _BROKER, _restarted),
    Kind("broker frozen", "the broker stands still, then goes on", _BROKER, _frozen),
    Kind("consumers deleted", "one to three durable consumers are deleted", _BROKER, _consumers_deleted),
    Kind("stream deleted", "the stream is deleted, with all it holds", _BROKER, _stream_deleted),
    Kind("broker wiped", "the broker comes back with an empty disk", _BROKER, _wiped),
    Kind("broker disk full", "the broker's disk is full", _BROKER, _disk_full, needs_disk("nats")),
)
