"""The broker: restarted, frozen, and relieved of what it kept."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any, Final

from hasty.server.local_stack import Child
from tests.chaos import facts
from tests.chaos.faults.processes import WATCHDOG
from tests.chaos.system import BACK_WITHIN_S, FaultKind, Injection, NotReached, System, last
from tests.eventually import eventually

_BROKER: Final = frozenset({"nats"})

WRITES_WITHIN_S: Final = 15.0
"""How long a full disk waits for the broker to write."""


async def _killed(system: System, hit: Injection) -> None:
    hit.begins("nats", "SIGKILL")
    await system.killed([system.stack.children["nats"]])


async def _restarted(system: System, hit: Injection) -> None:
    broker = system.stack.children["nats"]
    hit.begins("nats", "SIGTERM")
    await broker.terminate()
    await broker.start()
    await broker.ready(60)


async def _frozen(system: System, hit: Injection) -> None:
    broker = system.stack.children["nats"]
    for child in system.children("api-server", "job-server"):
        system.allow(child, WATCHDOG)
    hit.begins("nats")
    broker.pause()
    try:
        await last(hit, 1.5, 5)
    finally:
        broker.resume()


async def _consumers_deleted(system: System, hit: Injection) -> None:
    there = [(facts.STREAM, durable) for durable in facts.DURABLES] + [
        (facts.WORK_STREAM, f"work-{kind}") for kind in ("quick", "flaky", "in_thread")
    ]
    gone = hit.chance.sample(there, hit.chance.randint(1, 4))
    client = await facts.connected(system.stack)
    try:
        hit.begins(", ".join(durable for _, durable in gone))
        for stream, durable in gone:
            await client.request(f"$JS.API.CONSUMER.DELETE.{stream}.{durable}", b"", timeout=3)
    finally:
        await client.close()


async def _stream_deleted(system: System, hit: Injection) -> None:
    client = await facts.connected(system.stack)
    try:
        stream = hit.chance.choice((facts.STREAM, facts.WORK_STREAM))
        hit.begins(stream)
        await client.request(f"$JS.API.STREAM.DELETE.{stream}", b"", timeout=3)
    finally:
        await client.close()


async def _wiped(system: System, hit: Injection) -> None:
    broker = system.stack.children["nats"]
    # What waits for its time must not be forgotten with it, nor be done at once.
    system.tasks.waiting()
    await asyncio.sleep(0.5)
    hit.begins("nats")
    await broker.stay_down()
    await asyncio.to_thread(empty, system.data / "nats")
    await broker.start()
    await broker.ready(60)


async def _disk_full(system: System, hit: Injection) -> None:
    """Healed by space alone: the supervisor restarts a broker that stores nothing since its disk was full."""
    broker, disk = system.stack.children["nats"], system.disks["nats"]
    before = _refusals(broker)
    hit.begins("nats")
    await disk.fill()
    try:
        # With other faults beside this one, nothing may be published for a while.
        with contextlib.suppress(AssertionError):
            await eventually(lambda: _refusals(broker) > before, within_s=WRITES_WITHIN_S, every_s=0.2)
        await last(hit, 2, 4)
    finally:
        await disk.free()
    await broker.ready(BACK_WITHIN_S)
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

    def obstacle(system: System) -> str:
        return "" if child in system.disks else system.no_disks or f"{child} has no disk of its own in this run"

    return obstacle


KINDS: Final = (
    FaultKind("broker killed", "SIGKILL of the broker", _BROKER, _killed),
    FaultKind("broker restarted", "the broker is shut down and started again", _BROKER, _restarted),
    FaultKind("broker frozen", "the broker stands still, then goes on", _BROKER, _frozen),
    FaultKind("consumers deleted", "some durable consumers are deleted", _BROKER, _consumers_deleted),
    FaultKind("stream deleted", "one of the streams is deleted, with all it holds", _BROKER, _stream_deleted),
    FaultKind("broker wiped", "the broker comes back with an empty disk", _BROKER, _wiped),
    FaultKind("broker disk full", "the broker's disk is full", _BROKER, _disk_full, needs_disk("nats")),
)
