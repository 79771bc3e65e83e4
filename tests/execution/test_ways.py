"""What comes of handlers, in each way of running; in real child processes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from hasty.jobs import Reason, Status, Way
from job_server.execution import Executor
from tests.eventually import eventually
from tests.execution.running import executing, outcome, start, turn_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    """One for all tests of this module: none of its handlers hurts the child."""
    async with executing() as running:
        yield running


@pytest.mark.parametrize(
    ("kind", "values", "output"),
    [
        ("greet", {"name": "Ada"}, '"hello Ada"'),
        ("resize", {"url": "u", "width": 3}, '{"bytes":3}'),
        ("echo", {"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
    ],
)
async def test_handler_finishes_with_its_output(
    executor: Executor, kind: str, values: dict[str, object], output: str
) -> None:
    """Written as compact JSON."""
    result = await outcome(executor, kind, **values)

    assert (result.status, result.output, result.failure, result.run) == (Status.FINISHED, output, None, 1)
    assert 0 <= result.ended_at - result.started_at < 30


async def test_process_handler_runs_in_a_process_of_its_own(executor: Executor) -> None:
    """Which is used again."""
    first = await outcome(executor, "train", rows=1)
    second = await outcome(executor, "train", rows=1)

    assert first.status is Status.FINISHED
    assert first.output == second.output
    assert os.getpid() not in json.loads(first.output or "")


async def test_context_tells_of_the_run(executor: Executor) -> None:
    """The idempotency key is the same in every run."""
    turn = turn_of("tells")
    result = await start(executor, turn, run=3)

    told = json.loads(result.output or "")
    assert 3500 < told.pop("left_s") <= 3600
    assert told == {
        "job_id": turn.job_id,
        "kind": "tells",
        "attempt": 2,
        "run": 3,
        "key": turn.job_id,
        "labels": ["a", "b"],
    }


async def test_handler_sees_no_credentials(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child was started with a URL in the environment."""
    monkeypatch.setenv("HASTY_NATS_URL", "nats://secret@127.0.0.1")
    async with executing() as other:
        assert (await outcome(other, "environment")).output == "[]"
    assert (await outcome(executor, "environment")).output == "[]"


@pytest.mark.parametrize(
    ("kind", "values", "reason", "text", "final"),
    [
        ("resize", {"url": "u", "width": 9001}, Reason.FAILED_BY_HANDLER, "too wide", True),
        ("resize", {"url": "u", "width": -1}, Reason.EXCEPTION, "negative", False),
        ("refuse", {}, Reason.FAILED_BY_HANDLER, "no good", True),
        ("broken", {}, Reason.EXCEPTION, "exit code 3", False),
        ("chatty", {}, Reason.BAD_OUTPUT, "not JSON", True),
        ("floods", {}, Reason.BAD_OUTPUT, "more than 1048576 bytes (1 MiB) to standard output", True),
        ("calls_sys_exit", {}, Reason.EXCEPTION, "7", False),
        ("eats_memory", {}, Reason.EXCEPTION, "", False),
        ("typed", {"when": "2026-01-02T03:04:05Z"}, Reason.BAD_OUTPUT, "annotation", True),
        *(
            ("returns", {"what": what}, Reason.BAD_OUTPUT, "", True)
            for what in ("a set", "too much", "nan", "an object", "a surrogate")
        ),
    ],
)
async def test_failure_says_what_happened(
    executor: Executor, kind: str, values: dict[str, object], reason: Reason, text: str, *, final: bool
) -> None:
    """With the type and the traceback of an exception."""
    result = await outcome(executor, kind, **values)

    assert result.failure is not None
    assert (result.status, result.failure.reason, result.final) == (Status.FAILED, reason, final)
    assert text in result.failure.message
    if kind == "resize" and reason is Reason.EXCEPTION:
        assert result.failure.type == "ValueError"
        assert 'raise ValueError("negative")' in result.failure.traceback


@pytest.mark.parametrize("kind", ["raises_async", "raises_process", "resize"])
async def test_traceback_is_of_the_handler_alone(executor: Executor, kind: str) -> None:
    """Whoever reads it has not written what called it."""
    result = await outcome(executor, kind, **({"url": "u", "width": -1} if kind == "resize" else {}))
    assert result.failure is not None
    files = [line for line in result.failure.traceback.splitlines() if line.startswith("  File ")]
    assert len(files) == 1
    assert "handlers.py" in files[0]


async def test_command_may_write_1_mib_of_output(executor: Executor) -> None:
    """Of which its JSON is little."""
    result = await outcome(executor, "floods_exactly")

    assert (result.status, result.output) == (Status.FINISHED, "7")


async def test_snooze_says_when_to_come_again(executor: Executor) -> None:
    """It is no failure."""
    result = await outcome(executor, "resize", url="u", width=30)

    assert (result.status, result.delay_s, result.failure) == (Status.PROCESSING, 30, None)


@pytest.mark.parametrize("values", [{}, {"name": 1}, {"name": "x", "more": 1}])
async def test_input_that_does_not_fit_is_refused(executor: Executor, values: dict[str, object]) -> None:
    """Another version of the handler may understand it."""
    assert (await outcome(executor, "greet", **values)).status is None


@pytest.mark.parametrize("kind", ["late_async", "late_thread", "late_process", "late_command"])
async def test_run_ends_with_its_time(executor: Executor, kind: str) -> None:
    """Whichever way it runs."""
    result = await outcome(executor, kind)

    assert result.failure is not None
    assert (result.status, result.failure.reason, result.final) == (Status.FAILED, Reason.TIMEOUT, False)


@pytest.mark.parametrize("kind", ["sleep_async", "sleep_thread", "sleep_process", "sleep_command"])
async def test_run_can_be_cancelled(executor: Executor, kind: str) -> None:
    """Whichever way it runs; nothing of it is left."""
    values = {} if kind == "sleep_command" else {"seconds": 60}
    turn = turn_of(kind, **values)
    running = start(executor, turn)
    await outcome(executor, "greet", name="so that it runs")

    executor.cancel(turn.turn_id)

    async with asyncio.timeout(30):
        assert (await running).status is Status.CANCELLED


async def test_run_that_waits_for_its_place_can_be_cancelled(executor: Executor) -> None:
    """It never begins."""
    busy = [turn_of("sleep_process", seconds=60) for _ in range(3)]
    runs = [start(executor, turn) for turn in busy]
    executor.cancel(busy[2].turn_id)
    async with asyncio.timeout(30):
        assert (await runs[2]).status is Status.CANCELLED

    for turn in busy[:2]:
        executor.cancel(turn.turn_id)
    assert {(await run).status for run in runs[:2]} == {Status.CANCELLED}


async def test_progress_is_told(executor: Executor) -> None:
    """The newest, with its note; it is forgotten with its run."""
    turn = turn_of("sleep_thread", seconds=60)
    running = start(executor, turn)
    assert turn.turn_id not in executor.progress
    executor.cancel(turn.turn_id)
    await running

    seen = []
    turn = turn_of("resize", url="u", width=3)
    running = start(executor, turn)
    while not running.done():
        seen += [executor.progress[turn.turn_id]] if turn.turn_id in executor.progress else []
        await asyncio.sleep(0)
    assert turn.turn_id not in executor.progress


async def test_places_are_counted_by_way(executor: Executor) -> None:
    """Commands and processes share theirs."""
    assert executor.free_slots("sleep_process") == executor.free_slots("echo") == 2
    turn = turn_of("sleep_process", seconds=60)
    running = start(executor, turn)
    assert (executor.free_slots("echo"), executor.free_slots("greet")) == (1, 1000)
    executor.cancel(turn.turn_id)
    await running
    assert executor.free_slots("echo") == 2
    assert executor.free_slots("unknown") == 0


async def test_kinds_are_what_the_module_declares(executor: Executor) -> None:
    """With their schemas and their policy."""
    kind = executor.kinds["resize"]

    assert (kind.way, kind.attempts, kind.first_s, kind.most_s) == (Way.THREAD, 3, 0.1, 1)
    assert '"width"' in kind.input_schema
    assert kind.description == "Do as the input says."
    assert {executor.kinds[name].way for name in ("greet", "train", "echo")} == {Way.ASYNC, Way.PROCESS, Way.COMMAND}


async def test_thousand_runs_share_a_child(executor: Executor) -> None:
    """At the same time."""
    runs = [start(executor, turn_of("sleep_async", seconds=0.2)) for _ in range(1000)]

    async with asyncio.timeout(30):
        results = await asyncio.gather(*runs)

    assert {result.status for result in results} == {Status.FINISHED}
    assert max(result.started_at for result in results) < min(result.ended_at for result in results)


async def test_stopped_run_tells_nothing(executor: Executor) -> None:
    """Its place is free again."""
    turn = turn_of("sleep_async", seconds=60)
    running = start(executor, turn)
    executor.stop(turn.turn_id)

    await eventually(lambda: executor.free_slots("sleep_async") == 1000)
    assert not running.done()


async def test_nothing_is_left_of_an_executor() -> None:
    """Neither a child nor what it has started."""
    async with executing() as executor:
        running = [start(executor, turn_of("sleep_process", seconds=60)), start(executor, turn_of("sleep_command"))]
        await outcome(executor, "greet", name="so that they run")
        await eventually(lambda: len(psutil.Process().children(recursive=True)) >= 2)
        mine = {child.pid for child in psutil.Process().children(recursive=True)}
    assert not any(run.done() for run in running)
    await eventually(lambda: len(mine & {pid for pid in psutil.pids() if psutil.pid_exists(pid)}) <= len(mine) - 2)
