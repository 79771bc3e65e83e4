"""Retention of seconds under load while everything is killed in turn: no place is taken twice, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from hasty.server.local_stack import Stack, StackConfig
from tests.chaos import facts
from tests.eventually import eventually

pytestmark = [pytest.mark.own_stack]

COOLDOWN_S: Final = 3
KEPT_S: Final = 15
"""Longer than a killed process keeps a job from being done, so that nothing is done again after it was forgotten."""

SECONDS: Final = 75
"""At least, and until everything was killed once: longer than a run stays marked."""

KEYS: Final = 60
KILL_EVERY_S: Final = 5
TARGETS: Final = ("api-server-1", "job-server-1", "api-mongo", "api-server-2", "job-server-2", "job-mongo", "nats")
ENVIRONMENT: Final = {
    "HASTY_RETENTION_DAYS": str(KEPT_S / 86_400),
    "HASTY_COOLDOWN_S": str(COOLDOWN_S),
    "HASTY_ACK_WAIT_S": "2",
    "HASTY_OVERDUE_S": "3",
    "HASTY_JOB_SLEEP_MIN_S": "0.05",
    "HASTY_JOB_SLEEP_MAX_S": "0.2",
}


@dataclass
class Caller:
    """Posts keys again and again, follows every job until it is forgotten, and keeps what it was told."""

    http: httpx.AsyncClient
    chance: random.Random
    accepted: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """By key, when a job was asked for and when it was accepted."""

    lost: list[str] = field(default_factory=list)
    forgotten: int = 0
    _following: set[asyncio.Task[None]] = field(default_factory=set)

    async def post_for_ever(self, key: str) -> None:
        """Two at once each time; pauses from below the cooldown to beyond the time for which a run is marked."""
        while True:
            await asyncio.gather(self._post(key), self._post(key))
            await asyncio.sleep(self.chance.choice((0.5, 2.5, 3.1, 10, 17, 31, 46)) * self.chance.uniform(1, 1.1))

    async def _post(self, key: str) -> None:
        asked = time.monotonic()
        answer = await self._ask("POST", "/", json={"object_id": key})
        if answer is not None and answer.status_code == 201:
            self.accepted[key].append((asked, time.monotonic()))
            task = asyncio.create_task(self._follow(answer.json()["message"]["job_id"]))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def _follow(self, job_id: str) -> None:
        ended, processing_at = False, time.monotonic()
        while True:
            asked = time.monotonic()
            answer = await self._ask("GET", f"/{job_id}")
            if answer is not None and answer.status_code == 200:
                ended = answer.json()["message"]["status"] != "processing"
                processing_at = processing_at if ended else asked
            elif answer is not None and answer.status_code == 400:
                gone_after_s = time.monotonic() - processing_at
                if not ended and gone_after_s < KEPT_S:
                    self.lost.append(f"{job_id}: gone {gone_after_s:.1f} s after it was processing")
                self.forgotten += 1
                return
            await asyncio.sleep(1)

    async def all_forgotten(self) -> None:
        """Return when every job that was accepted is forgotten."""
        await asyncio.gather(*self._following)

    def taken_twice(self) -> list[str]:
        """Jobs that were certainly created within the cooldown of the one before, whatever the clocks say."""
        found = []
        for key, times in self.accepted.items():
            for (asked, _), (_, answered) in zip(sorted(times), sorted(times)[1:], strict=False):
                if answered - asked < COOLDOWN_S:
                    found.append(f"{key}: two jobs within {answered - asked:.2f} s")
        return found

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        try:
            return await self.http.request(method, path, **more)
        except httpx.HTTPError:
            return None


async def kill_in_turn(stack: Stack) -> int:
    """End each part without warning and wait until it is back; how many."""
    killed = 0
    until = time.monotonic() + SECONDS
    while killed < len(TARGETS) or time.monotonic() < until:
        child = stack.children[TARGETS[killed % len(TARGETS)]]
        await child.kill()
        killed += 1
        await asyncio.sleep(KILL_EVERY_S)
        await child.ready(timeout_s=30)
    return killed


async def left(stack: Stack) -> dict[str, int]:
    """How many documents there are that retention has to delete."""
    async with facts.database(stack, "api-mongo") as api, facts.database(stack, "job-mongo") as job:
        collections = {
            **{name: api.hasty_api[name] for name in ("jobs", "forgotten")},
            **{name: job.hasty_job[name] for name in ("outcomes", "runs")},
        }
        return {name: await one.count_documents({}) for name, one in collections.items()}


async def test_retention_holds_under_load_and_kills(tmp_path: Path) -> None:
    """I1 and I4 with runs that are marked, looked up, sealed and deleted at any time; both databases are empty then."""
    config = StackConfig(folder=tmp_path, api_servers=2, job_servers=2, environment=ENVIRONMENT)
    async with Stack.running(config) as stack, httpx.AsyncClient(base_url=stack.url, timeout=10) as http:
        caller = Caller(http, random.Random(7))
        posting = [asyncio.create_task(caller.post_for_ever(f"key {n}")) for n in range(KEYS)]
        killed = await kill_in_turn(stack)
        for task in posting:
            task.cancel()
        await asyncio.gather(*posting, return_exceptions=True)
        async with asyncio.timeout(180):
            await caller.all_forgotten()

        async def nothing_is_left() -> bool:
            found = await left(stack)
            assert not any(found.values()), json.dumps(found)
            return True

        await eventually(nothing_is_left, within_s=120, every_s=1)

    assert (caller.lost, caller.taken_twice()) == ([], [])
    assert killed >= len(TARGETS)
    assert caller.forgotten == sum(map(len, caller.accepted.values())) > KEYS
