"""What handlers print: a flood neither fills the log nor stops anybody."""

import asyncio
import re

import pytest

from hasty.executor.outcomes import STDOUT_MAX
from hasty.executor.processes import _read
from hasty.jobs import Reason
from tests.eventually import eventually
from tests.execution.running import executing, outcome, start, turn_of

LOG_MAX = 4_000_000
"""More characters than a flood may leave in the log: a burst, and what is let through meanwhile."""


@pytest.mark.parametrize(
    ("kind", "values"), [("prints_a_lot", {"lines": 300_000}), ("writes_a_lot", {"size": 30_000_000})]
)
async def test_flood_of_output_is_cut(capfd: pytest.CaptureFixture[str], kind: str, values: dict[str, object]) -> None:
    """How many lines were left out is logged; what is printed later is there."""
    async with executing() as running:
        assert (await outcome(running, kind, **values)).output is not None
        seen: list[str] = []

        def text() -> str:
            seen.append(capfd.readouterr().out)
            return "".join(seen)

        await eventually(lambda: "handler_output_dropped" in text())
        await asyncio.sleep(1.5)
        await outcome(running, "greet", name="Ada")
        await eventually(lambda: "greeting Ada" in text())
    assert len(text()) < LOG_MAX


@pytest.mark.parametrize(
    ("kind", "values", "line", "jobs"),
    [
        ("greet", {"name": "Ada"}, "greeting Ada", 5),
        ("prints_a_lot", {"lines": 1}, "flood 0", 5),
        ("train", {"rows": 1}, "training", 5),
    ],
    ids=["async", "thread", "process"],
)
async def test_printed_line_is_bound_to_kind_and_job(
    capfd: pytest.CaptureFixture[str], kind: str, values: dict[str, object], line: str, jobs: int
) -> None:
    """Whichever way the handler runs."""
    turns = [turn_of(kind, **values) for _ in range(jobs)]
    async with executing() as running:
        await asyncio.gather(*(start(running, turn) for turn in turns))
        logged: list[str] = []

        def every_line() -> bool:
            logged.extend(text for text in capfd.readouterr().out.splitlines() if line in text)
            return len(logged) == len(turns)

        await eventually(every_line)

    for turn in turns:
        [text] = [text for text in logged if turn.job_id in text]
        assert re.search(rf"\bkind=.*\b{kind}\b", text), text
        assert "handler_output" in text
        assert "stdout" in text


async def test_very_long_line_is_passed_on_in_parts() -> None:
    """In no time that its neighbours would notice."""
    async with executing() as running:
        assert (await outcome(running, "prints_one_line", characters=50_000_000)).output == '"printed"'


async def test_command_may_write_much_to_stderr() -> None:
    """The last part of it is kept."""
    async with executing() as running:
        result = await outcome(running, "talks_a_lot")
    assert result.failure is not None
    assert result.failure.reason is Reason.FAILED_BY_HANDLER


async def test_what_a_command_writes_beyond_the_limit_is_not_kept() -> None:
    """It is read all the same, from whatever cannot be killed with it."""
    written = asyncio.StreamReader()
    for _ in range(40):
        written.feed_data(b"x" * 100_000)
    written.feed_eof()

    assert len(await _read(written, group=2**31 - 1)) == STDOUT_MAX + 1
