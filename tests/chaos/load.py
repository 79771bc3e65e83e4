"""Steady, bounded load by HTTP, and the eyes: what callers ask, what they are told, and which jobs are under way."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from tests.chaos.callers import Answer, Callers, NoAnswer
from tests.chaos.checker import TERMINAL
from tests.chaos.history import History, Post, Sight, run_clock

_MOST_AT_ONCE: Final = 200
_REGULARS: Final = 24
_ODD_NAMES: Final = ("объект", "物", "a b", "$set", "a.b", "../../etc", "{}", "\u202e", "null", "'; --")


@dataclass
class Flight:
    """The jobs that were promised and are not known to be terminal, by the api-server's database itself."""

    jobs: AsyncCollection[dict[str, Any]]
    under_way: set[str] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self) -> None:
        """Keep `under_way` up to date until cancelled; a database that does not answer is asked again."""
        while True:
            with contextlib.suppress(PyMongoError):
                await self._look()
            await asyncio.sleep(0.15)

    async def _look(self) -> None:
        asked = list(self.under_way)
        for start in range(0, len(asked), 500):
            some = asked[start : start + 500]
            cursor = self.jobs.find({"_id": {"$in": some}}, {"status": 1})
            ended = [job["_id"] async for job in cursor if job["status"] in TERMINAL]
            self.under_way.difference_update(ended)
        async with self._news:
            self._news.notify_all()

    async def landed(self, jobs: Iterable[str]) -> None:
        """Return when all of these jobs are terminal."""
        awaited = set(jobs)
        async with self._news:
            while awaited := awaited & self.under_way:
                await self._news.wait()


@dataclass
class Load:
    """Posts at a steady rate, whatever happens; never more than a bounded number at once."""

    callers: Callers
    history: History
    flight: Flight
    chance: random.Random
    rate: float
    name: str
    looks_per_s: float = 15
    seen_too_soon: int = 0
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    _jobs: list[str] = field(default_factory=list)
    _made: int = 0
    _busy: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Post and look until told to stop, then wait for the answers under way."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._post_steadily(stop), name="posts")
            group.create_task(self._look_steadily(stop), name="looks")
        while self._busy:
            await asyncio.wait(self._busy)
        self.callers.close()

    def burst(self, count: int) -> None:
        """Post this many jobs at once, besides the steady rate."""
        for _ in range(count):
            self._begin(self._fresh())

    def rush(self) -> None:
        """Ask for every regular object at once, three times each."""
        for number in range(_REGULARS):
            for _ in range(3):
                self._begin(f"{self.name}/regular/{number}")

    async def _post_steadily(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            due = max(due + self.chance.expovariate(self.rate), loop.time() - 0.5)
            await asyncio.sleep(max(0.0, due - loop.time()))
            draw = self.chance.random()
            if draw < 0.05:
                regular = f"{self.name}/regular/{self.chance.randrange(_REGULARS)}"
                for _ in range(self.chance.randint(2, 4)):
                    self._begin(regular)
            elif draw < 0.10:
                fresh = self._fresh()
                for _ in range(self.chance.randint(2, 4)):
                    self._begin(fresh)
            elif draw < 0.12 and self._recent:
                self._begin(self.chance.choice(self._recent))
            else:
                self._begin(self._fresh())

    def _fresh(self) -> str:
        self._made += 1
        odd = f"/{self.chance.choice(_ODD_NAMES)}" if self.chance.random() < 0.05 else ""
        object_id = f"{self.name}/{self._made}{odd}"
        self._recent.append(object_id)
        return object_id

    def _begin(self, object_id: str) -> None:
        if len(self._busy) >= _MOST_AT_ONCE:
            return  # the system is away: the load stays bounded, as a caller's timeout bounds it
        task = asyncio.create_task(self._post(object_id), name="post")
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _post(self, object_id: str) -> None:
        sent = run_clock()
        try:
            answer = await self.callers.post("/", {"object_id": object_id})
            post = _understood(sent, object_id, answer)
        except NoAnswer as error:
            post = Post(sent, run_clock(), object_id, None, text=str(error))
        self.history.posts.append(post)
        if post.accepted and post.job_id is not None:
            self._jobs.append(post.job_id)
            self.flight.under_way.add(post.job_id)
        self.seen_too_soon += post.status == 400

    async def _look_steadily(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self.chance.expovariate(self.looks_per_s))
            if self._jobs and len(self._busy) < _MOST_AT_ONCE:
                lately = self.chance.random() < 0.7
                job_id = self.chance.choice(self._jobs[-60:] if lately else self._jobs)
                task = asyncio.create_task(self._look(job_id), name="look")
                self._busy.add(task)
                task.add_done_callback(self._busy.discard)

    async def _look(self, job_id: str) -> None:
        sent = run_clock()
        try:
            answer = await self.callers.get(f"/{job_id}")
        except NoAnswer:
            return
        if answer.code != 200:
            self.history.sights.append(Sight(sent, run_clock(), job_id, answer.code))
            return
        job = answer.json()["message"]
        self.history.sights.append(
            Sight(sent, run_clock(), job_id, 200, job["status"], job["sleep_time_used"], job["timestamp"])
        )


def _understood(sent: float, object_id: str, answer: Answer) -> Post:
    ended = run_clock()
    if answer.code == 201:
        return Post(sent, ended, object_id, 201, answer.json()["message"]["job_id"])
    location = answer.headers.get("location", "").removeprefix("/") or None
    return Post(sent, ended, object_id, answer.code, location, answer.body[:200].decode(errors="replace"))
