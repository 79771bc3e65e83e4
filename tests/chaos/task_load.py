"""Load for handlers: jobs of every kind that ends by itself, with delays, keys and repetitions, and cancellations."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.callers import Answer, Callers, NoAnswer
from tests.chaos.history import Cancel, History, TaskPost, run_clock
from tests.chaos.load import Flight

WORK: Final = Path(__file__).with_name("work")
_MOST_AT_ONCE: Final = 120
_TRIES: Final = 4
_NAMES: Final = 12
_DONE: Final = ("finished",)
_GONE: Final = ("finished", "failed/lost")


@dataclass(frozen=True)
class Order:
    """What is asked for: a kind, its input without the mark, and the ends that the job may come to."""

    kind: str
    values: dict[str, Any]
    expected: tuple[str, ...] = _DONE
    delay_s: float = 0
    attempts: int = 1
    place: str = ""


def _quick(chance: random.Random) -> Order:
    return Order("quick", {"seconds": round(chance.uniform(0, 0.4), 3)})


def _delayed(chance: random.Random) -> Order:
    values = {"seconds": round(chance.uniform(0, 0.2), 3)}
    return Order("quick", values, delay_s=round(chance.uniform(1, 6), 1))


def _flaky(chance: random.Random) -> Order:
    fails = chance.randint(0, 4)
    return Order("flaky", {"fails": fails}, _DONE if fails < 4 else ("failed/exception",), attempts=4)


def _keyed(chance: random.Random) -> Order:
    name = f"name-{chance.randrange(_NAMES)}"
    return Order("keyed", {"name": name, "seconds": round(chance.uniform(0, 0.3), 3)}, place=f"keyed\x1f{name}")


ORDERS: Final[tuple[tuple[int, Callable[[random.Random], Order]], ...]] = (
    (30, _quick),
    (12, _delayed),
    (12, lambda chance: Order("in_thread", {"seconds": round(chance.uniform(0.05, 0.6), 3)})),
    (5, lambda chance: Order("in_process", {"seconds": round(chance.uniform(0, 0.3), 3)})),
    (4, lambda _: Order("in_command", {})),
    (4, lambda chance: Order("lasting", {"seconds": round(chance.uniform(4, 9), 2)})),
    (12, _flaky),
    (3, lambda _: Order("gives_up", {}, ("failed/failed_by_handler",), attempts=4)),
    (5, lambda chance: Order("snoozes", {"until": time.time() + chance.uniform(0, 2.5)})),
    (3, lambda _: Order("too_long", {}, ("failed/timeout",))),
    (2, lambda _: Order("bad_output", {}, ("failed/bad_output",))),
    (6, lambda chance: Order("once", {"seconds": round(chance.uniform(0, 0.3), 3)}, _GONE)),
    (9, _keyed),
)
"""How often of a hundred or so each is asked for, and how it is made."""


@dataclass
class TaskLoad:
    """Posts jobs of kinds at a steady rate, and cancels some: at once, soon, before they are due, or too late."""

    callers: Callers
    history: History
    flight: Flight
    chance: random.Random
    rate: float
    name: str
    cancelled_part: float
    _made: int = 0
    _ids: list[str] = field(default_factory=list)
    _busy: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Post until told to stop, then wait for the answers under way."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        makers, weights = [make for _, make in ORDERS], [weight for weight, _ in ORDERS]
        while not stop.is_set():
            if not self.rate:
                await stop.wait()
                break
            due = max(due + self.chance.expovariate(self.rate), loop.time() - 0.5)
            await asyncio.sleep(max(0.0, due - loop.time()))
            (make,) = self.chance.choices(makers, weights)
            cancels = self.chance.random() < self.cancelled_part
            self.begin(make(self.chance), cancel_after_s=self._when() if cancels else None)
        while self._busy:
            await asyncio.wait(self._busy)

    def begin(self, order: Order, cancel_after_s: float | None = None) -> None:
        """Ask for a job, and for its cancellation so long after the answer, if a time is given."""
        if len(self._busy) < _MOST_AT_ONCE:
            self._start(self._post(order, cancel_after_s))

    def waiting(self) -> None:
        """Ask for jobs that wait for their time: delayed ones, and some that are tried again and again."""
        for _ in range(15):
            self.begin(_delayed(self.chance))
            self.begin(Order("flaky", {"fails": 3}, attempts=4))

    async def done(self, order: Order) -> bool:
        """Ask for one job and see it to its end; whether it was accepted."""
        post = await self.post(order)
        if post.job_id is not None and post.accepted:
            await self.flight.landed([post.job_id])
        return post.accepted

    async def post(self, order: Order) -> TaskPost:
        """Ask for one job; what was answered."""
        return await self._post(order, None)

    def _when(self) -> float:
        return self.chance.choice((0.0, 0.0, self.chance.uniform(0, 1), self.chance.uniform(0, 4), 8.0))

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run(), name="task load")
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _post(self, order: Order, cancel_after_s: float | None) -> TaskPost:
        self._made += 1
        mark = f"{self.name}-{self._made}"
        body: dict[str, Any] = {"kind": order.kind, "input": {"mark": mark, **order.values}}
        if order.delay_s:
            body["delay_s"] = order.delay_s
        key = mark if self.chance.random() < 0.5 else ""
        sent, tries, answer, text = run_clock(), 0, None, ""
        # Only a request with a key may be repeated: without one, a repetition would hide what became of the first.
        while tries == 0 or (key and tries < _TRIES and (answer is None or answer.code >= 500)):
            if tries:
                await asyncio.sleep(0.5)
            tries += 1
            try:
                answer = await self.callers.post("/v1/jobs", body, key)
            except NoAnswer as error:
                answer, text = None, str(error)
        status, job_id = (None, None) if answer is None else _understood(answer)
        if answer is not None and status not in {200, 201}:
            text = answer.body[:200].decode(errors="replace")
        post = TaskPost(
            *(sent, run_clock(), order.kind, mark, order.expected, status, job_id, text),
            *(order.delay_s, order.attempts, order.place, tries),
        )
        self.history.tasks.append(post)
        if post.accepted and job_id is not None:
            self._ids.append(job_id)
            self.flight.under_way.add(job_id)
            if cancel_after_s is not None:
                self._start(self._cancel(job_id, cancel_after_s))
        return post

    async def _cancel(self, job_id: str, after_s: float) -> None:
        if after_s:
            await asyncio.sleep(after_s)
        callers = 2 if self.chance.random() < 0.2 else 1
        await asyncio.gather(*(self._cancel_once(job_id) for _ in range(callers)))

    async def _cancel_once(self, job_id: str) -> None:
        sent, code, seen = run_clock(), None, ""
        try:
            answer = await self.callers.post(f"/v1/jobs/{job_id}/cancel", {})
            code = answer.code
            seen = answer.json()["status"] if code in {200, 202} else ""
        except NoAnswer:
            pass
        self.history.cancels.append(Cancel(sent, run_clock(), job_id, code, seen))


def _understood(answer: Answer) -> tuple[int, str | None]:
    if answer.code in {200, 201}:
        return answer.code, answer.json()["id"]
    if answer.code == 409:
        return 409, answer.json().get("job_id")
    return answer.code, None
