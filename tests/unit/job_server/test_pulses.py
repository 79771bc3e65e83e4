"""What a job-server says of itself once a second."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from hasty.jobs import NOTE_MAX, Kind, Task, Turn
from hasty.server.messaging.delivery import Delivery
from job_server.held import Held, HeldTurns
from job_server.pulses import ASLEEP_MAX, RUNNING_IN_A_PART, parts
from job_server.runs import Progress

BROKERS_LIMIT = 1024 * 1024
NOW = 5_000.0


class Executor:
    """What runs handlers, with as long a note for each as there may be."""

    kinds: Mapping[str, Kind] = {}

    def __init__(self, notes: Mapping[str, str]) -> None:
        self.progress = {turn_id: Progress(0.5, note, NOW) for turn_id, note in notes.items()}


def hold(held: HeldTurns, n: int, *, for_s: float = 0, task: Task | None = None, ended: bool = False) -> Held:
    """Hold a turn whose work began so long ago, and has ended if it is to have."""
    turn = Turn(f"{n:08}-0000-7000-8000-000000000001", "x", 1, task=task)
    one = held.hold(turn, Delivery("job:created", b"", "", 1, n, 0))
    one.began = asyncio.get_running_loop().time() - for_s
    one.stop = None if ended else lambda: None
    return one


def pulse_of(held: HeldTurns, notes: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Every message of a pulse, which the broker takes."""
    messages = list(parts(held, Executor(notes or {}), lambda _: 0, 9, 9, worker="w-7", now_s=NOW))
    assert max(len(message) for message in messages) < BROKERS_LIMIT
    return [json.loads(message) for message in messages]


async def test_what_sleeps_for_a_second_is_named_with_its_start() -> None:
    """What is shorter, has ended or is a handler's is not: of short ones there are thousands in a second."""
    held = HeldTurns()
    one = hold(held, 1, for_s=20)
    hold(held, 2, for_s=0.9)
    hold(held, 3, for_s=20, ended=True)
    handled = hold(held, 4, for_s=20, task=Task("greet", "{}"))
    [message] = pulse_of(held)
    assert message["asleep"] == {one.turn.job_id: pytest.approx(NOW - 20, abs=1)}
    assert [row[0] for row in message["running"]] == [handled.turn.job_id]


async def test_pulse_does_not_grow_with_what_sleeps() -> None:
    """Those that are held the longest are named."""
    held = HeldTurns()
    named = [hold(held, n, for_s=20).turn.job_id for n in range(5_000)][:ASLEEP_MAX]
    [message] = pulse_of(held)
    assert (list(message["asleep"]), message["held"]) == (named, 5_000)


async def test_every_message_is_one_that_the_broker_takes() -> None:
    """Whatever the notes, and whatever sleeps besides; what sleeps is named once."""
    held = HeldTurns()
    for n in range(ASLEEP_MAX):
        hold(held, n, for_s=20)
    run = [hold(held, 10_000 + n, task=Task("greet", "{}")).turn for n in range(RUNNING_IN_A_PART + 1)]
    first, second = pulse_of(held, {turn.turn_id: "\x00" * 2 * NOTE_MAX for turn in run})
    assert (len(first["asleep"]), len(second["asleep"])) == (ASLEEP_MAX, 0)
    assert (len(first["running"]), len(second["running"])) == (RUNNING_IN_A_PART, 1)
