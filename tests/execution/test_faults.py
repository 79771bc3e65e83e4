"""Handlers that hurt: what they cost is their own run, at worst a fresh run of their neighbours."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from hasty.jobs import Reason, Status
from job_server.execution import Executor, child, executor
from job_server.execution.children import ALONE_AT_ONCE, STARTING_AT_ONCE
from job_server.runs import Result
from tests.eventually import eventually
from tests.execution.running import executing, outcome, start, turn_of


def children_of_this_test() -> list[psutil.Process]:
    """The children that run handlers; one that is just ending is none any more."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "hasty.executor" in process.cmdline():
                found.append(process)
    return found


def child_of_this_test() -> psutil.Process:
    """The child that takes what is new."""
    (found,) = children_of_this_test()
    return found


async def neighbours(running: Executor, count: int = 50) -> list[asyncio.Future[Result]]:
    """Runs beside the one that hurts."""
    runs = [start(running, turn_of("sleep_async", seconds=1.5)) for _ in range(count)]
    await outcome(running, "greet", name="so that they run")
    return runs


@pytest.mark.parametrize("kind", ["exits", "kills_itself"])
async def test_poison_is_lost_and_its_neighbours_finish(kind: str) -> None:
    """It runs twice in company and twice alone; nobody else is blamed."""
    async with executing() as running:
        beside = await neighbours(running)
        poison = start(running, turn_of(kind))

        async with asyncio.timeout(60):
            result = await poison
            others = await asyncio.gather(*beside)

    assert result.failure is not None
    assert (result.status, result.failure.reason, result.final, result.run) == (Status.FAILED, Reason.LOST, True, 4)
    assert {other.status for other in others} == {Status.FINISHED}
    assert max(other.run for other in others) > 1


async def test_few_children_for_single_runs_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait: starting is what costs. Once they have started, more than these run side by side."""
    begun = child.Child.started
    started: list[child.Child] = []
    most_starting = 0

    async def noting(*arguments: Any) -> child.Child:
        nonlocal most_starting
        new = await begun(*arguments)
        started.append(new)
        most_starting = max(most_starting, sum(not one.hello.done() for one in started))
        return new

    async with executing() as running:
        monkeypatch.setattr(child.Child, "started", noting)
        runs = [start(running, turn_of("sleep_async", seconds=6), alone=True) for _ in range(6)]
        await eventually(lambda: sum(one.hello.done() for one in started) > STARTING_AT_ONCE, within_s=30)
        assert not any(run.done() for run in runs)
        results = await asyncio.gather(*runs)

    assert {result.status for result in results} == {Status.FINISHED}
    assert most_starting == STARTING_AT_ONCE


async def test_fault_in_a_process_costs_nobody_else() -> None:
    """The child itself lives on."""
    async with executing() as running:
        pid = child_of_this_test().pid
        result = await outcome(running, "dies_in_process")

        assert result.failure is not None
        assert result.failure.reason is Reason.LOST
        # The child in which it ran alone may still be ending.
        await eventually(lambda: [child.pid for child in children_of_this_test()] == [pid])


@pytest.mark.parametrize("kind", ["blocks", "stops_itself"])
async def test_deaf_child_is_replaced(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As if it had died."""
    monkeypatch.setattr(child, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(child, "DEAF_AFTER_S", 0.6)
    async with executing() as running:
        beside = await neighbours(running, 5)
        result = await outcome(running, kind)
        others = await asyncio.gather(*beside)

    assert result.failure is not None
    assert (result.failure.reason, result.run) == (Reason.LOST, 4)
    assert {other.status for other in others} == {Status.FINISHED}


async def test_killed_child_is_replaced() -> None:
    """Its runs start again, and can see it; the log says which signal it was."""
    with capture_logs() as logged:
        async with executing() as running:
            runs = [start(running, turn_of("sleep_async", seconds=1)) for _ in range(20)]
            await outcome(running, "greet", name="so that they run")
            child_of_this_test().kill()

            results = await asyncio.gather(*runs)
            again = await outcome(running, "tells")

    assert {(result.status, result.run) for result in results} == {(Status.FINISHED, 2)}
    assert again.status is Status.FINISHED
    assert [line["reason"] for line in logged if line["event"] == "child_lost"] == ["ended with signal SIGKILL"]


async def test_garbage_costs_the_child_that_wrote_it() -> None:
    """What is not understood is no message; the next child has nothing of it."""
    async with executing() as running:
        result = await outcome(running, "writes_garbage")
        assert result.failure is not None
        assert result.failure.reason is Reason.LOST
        assert (await outcome(running, "greet", name="Ada")).status is Status.FINISHED


async def test_child_that_hangs_up_gets_nothing_new() -> None:
    """What it cannot be told would count as lost, though it was never begun."""
    async with executing() as running:
        hangs_up = start(running, turn_of("hangs_up"))
        gone = running._children.current  # noqa: SLF001 - nobody else is told at this moment
        assert gone is not None
        await eventually(lambda: gone._channel._over)  # noqa: SLF001 - as above
        once = await outcome(running, "once")
        lost = await hangs_up

    assert once.status is Status.FINISHED
    assert lost.failure is not None
    assert lost.failure.reason is Reason.LOST


async def test_forked_process_ends_with_its_child() -> None:
    """It holds nothing up."""
    async with executing() as running:
        result = await outcome(running, "forks")
        forked = int((result.output or "").strip('"'))
        assert psutil.pid_exists(forked)
    await eventually(lambda: not psutil.pid_exists(forked) or psutil.Process(forked).status() == psutil.STATUS_ZOMBIE)


async def test_thread_that_never_listens_costs_its_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is over when the child is killed, not before; neighbours that were killed with it are not blamed."""
    monkeypatch.setattr(executor, "NEIGHBOURS_GET_S", 0.5)
    monkeypatch.setenv("HASTY_TEST", "1")
    async with executing() as running:
        first = child_of_this_test().pid
        turn = turn_of("never_listens", mark=str(tmp_path / "mark"))
        stuck = start(running, turn)
        beside = start(running, turn_of("sleep_async", seconds=14))
        async with asyncio.timeout(60):
            result = await stuck
            assert not psutil.pid_exists(first)
            assert (await outcome(running, "greet", name="Ada")).status is Status.FINISHED
            neighbour = await beside

    assert result.failure is not None
    assert (result.status, result.failure.reason, result.run) == (Status.FAILED, Reason.TIMEOUT, 1)
    assert (neighbour.status, neighbour.run) == (Status.FINISHED, 2)


async def test_at_most_once_run_is_lost_at_once() -> None:
    """It is not started a second time."""
    async with executing() as running:
        result = await outcome(running, "once_only")

    assert result.failure is not None
    assert (result.failure.reason, result.run) == (Reason.LOST, 1)


async def test_run_alone_has_a_child_of_its_own() -> None:
    """The others' child is another one."""
    async with executing() as running:
        alone = await start(running, turn_of("train", rows=1), alone=True)
        assert alone.status is Status.FINISHED
        result = await start(running, turn_of("exits"), alone=True)

    assert result.failure is not None
    assert (result.failure.reason, result.run) == (Reason.LOST, 2)


async def test_runs_alone_wait_for_one_another(tmp_path: Path) -> None:
    """All their children have to fit into the memory beside the others' one; each run gets its turn."""
    work = tmp_path / "tasks.py"
    work.write_text(
        "import asyncio\nfrom hasty import job\n@job\nasync def wait() -> None:\n    await asyncio.Event().wait()\n"
    )
    async with executing(work) as running:
        turns = [turn_of("wait") for _ in range(ALONE_AT_ONCE + 3)]
        runs = [start(running, turn, alone=True) for turn in turns]
        await eventually(lambda: len(children_of_this_test()) == ALONE_AT_ONCE + 1, within_s=60)
        with pytest.raises(AssertionError):
            await eventually(lambda: len(children_of_this_test()) > ALONE_AT_ONCE + 1, within_s=2)

        for turn in turns[:ALONE_AT_ONCE]:
            running.cancel(turn.turn_id)
        await eventually(lambda: len(children_of_this_test()) == len(turns) - ALONE_AT_ONCE + 1, within_s=60)
        for turn in turns:
            running.cancel(turn.turn_id)
        results = await asyncio.wait_for(asyncio.gather(*runs), 60)

    assert {result.status for result in results} == {Status.CANCELLED}


async def test_reload_lets_runs_end_where_they_are(tmp_path: Path) -> None:
    """New ones start with the new code."""
    work = tmp_path / "tasks.py"
    code = "import asyncio\nfrom hasty import job\n@job\nasync def say(seconds: float = 0) -> str:\n"
    work.write_text(code + "    await asyncio.sleep(seconds)\n    return 'old'\n")
    async with executing(work, watch=True) as running:
        old = start(running, turn_of("say", seconds=2.5))
        version = running.kinds["say"].version
        announced: list[str] = []
        running.on_kinds = lambda: announced.append(running.kinds["say"].version)

        work.write_text(code + "    await asyncio.sleep(seconds)\n    return 'new and longer'\n")
        await eventually(lambda: announced, within_s=20)

        assert (await outcome(running, "say")).output == '"new and longer"'
        assert announced[-1] != version
        assert (await old).output == '"old"'


async def test_module_that_cannot_be_imported_is_a_problem(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback is logged once, however often it is tried again, and it is loaded when the file has changed."""
    begun, tries = child.Child.started, 0

    async def counting(*arguments: Any) -> child.Child:
        nonlocal tries
        tries += 1
        return await begun(*arguments)

    monkeypatch.setattr(child.Child, "started", counting)
    work = tmp_path / "tasks.py"
    work.write_text("import nothing_of_this_name\n")
    async with executing(work) as running:
        await eventually(lambda: tries >= 4, within_s=60)
        assert running.problem is not None
        assert "nothing_of_this_name" in running.problem
        assert running.kinds == {}

        work.write_text("from hasty import job\n@job\ndef say() -> str:\n    return 'corrected'\n")
        await eventually(lambda: running.kinds, within_s=20)
        assert running.problem is None
        assert (await outcome(running, "say")).output == '"corrected"'
    [logged] = [line for line in capfd.readouterr().out.splitlines() if "handlers_not_loaded" in line]
    assert f'File "{work}", line 1, in <module>' in logged
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in logged


async def test_broken_code_keeps_the_old_child(tmp_path: Path) -> None:
    """What can be served is served."""
    work = tmp_path / "tasks.py"
    work.write_text("from hasty import job\n@job\ndef say() -> str:\n    return 'old'\n")
    async with executing(work, watch=True) as running:
        work.write_text("from hasty import job\nraise RuntimeError('not today, thank you')\n")
        await eventually(lambda: running.problem, within_s=20)

        assert "not today" in str(running.problem)
        assert (await outcome(running, "say")).output == '"old"'


async def test_child_leaves_with_its_parent(tmp_path: Path) -> None:
    """Whatever ends the parent."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio\n"
        "from tests.execution.running import executing\n"
        "async def main():\n"
        "    async with executing() as running:\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None
    while b"up" not in await parent.stdout.readline():
        pass
    mine = psutil.Process(parent.pid).children(recursive=True)
    assert mine

    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    await eventually(lambda: not any(process.is_running() for process in mine))
