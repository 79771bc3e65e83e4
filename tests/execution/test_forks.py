"""Handlers that fork, forge, and leave processes behind: nothing of it counts, and nothing of it stays."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from hasty.jobs import Status
from tests.eventually import eventually
from tests.execution.running import executing, outcome, start, turn_of
from tests.execution.test_faults import child_of_this_test, children_of_this_test

PARENT = """
import asyncio
from tests.execution.running import executing, start, turn_of
async def main():
    async with executing() as running:
        runs = [start(running, turn_of("leaves_behind")), start(running, turn_of("sleep_process", seconds=600))]
        print("up", flush=True)
        await asyncio.gather(*runs)
asyncio.run(main())
"""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; nobody may have asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("kind", ["both_return", "both_wait"])
async def test_fork_does_not_go_on_as_its_child(kind: str) -> None:
    """It ends when the handler's code has: it takes no message and reports nothing."""
    async with executing() as running:
        result = await outcome(running, kind)
        forked = int((result.output or "").strip('"'))

        assert forked != 0
        await eventually(lambda: is_gone(forked))
        results = [await outcome(running, "greet", name=str(number)) for number in range(20)]
    assert {result.status for result in results} == {Status.FINISHED}


async def test_fork_leaves_its_neighbours_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """What it does not run is nothing to warn of."""
    async with executing() as running:
        result = await outcome(running, "forks_among_others")
        forked = int((result.output or "").strip('"'))
        await eventually(lambda: is_gone(forked))
    assert "handler_output" not in capfd.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot ask to end with its parent")
@pytest.mark.parametrize("session", [False, True])
async def test_fork_ends_with_its_child(*, session: bool) -> None:
    """Also in a session of its own; the child's runs start again."""
    async with executing() as running:
        result = await outcome(running, "thread_forks", session=session)
        forked = int((result.output or "").strip('"'))
        beside = start(running, turn_of("sleep_async", seconds=1))
        await outcome(running, "greet", name="so that it runs")
        assert not is_gone(forked)

        child_of_this_test().kill()

        await eventually(lambda: is_gone(forked))
        assert ((await beside).status, (await beside).run) == (Status.FINISHED, 2)


async def test_child_is_gone_when_it_has_ended() -> None:
    """Also when something outside of its group still holds its output open."""
    async with executing() as running:
        open_before = psutil.Process().num_fds()
        left = psutil.Process(int((await outcome(running, "leaves_a_session")).output or ""))
        try:
            child = child_of_this_test()
            child.kill()
            await eventually(lambda: child not in children_of_this_test() and running.kinds, within_s=30)
            assert (await outcome(running, "greet", name="Ada")).status is Status.FINISHED

            await eventually(lambda: psutil.Process().num_fds() == open_before)
        finally:
            left.kill()


async def test_command_ends_when_it_ends() -> None:
    """What it leaves behind may hold its output open, out of its group."""
    async with executing() as running:
        result = await outcome(running, "leaves_a_daemon")
        psutil.Process(int(json.loads(result.output or ""))).kill()
    assert result.status is Status.FINISHED


async def test_ending_of_a_forked_worker_is_nobody_elses() -> None:
    """The run that its worker has meanwhile ends with its own output."""
    async with executing() as running:
        first = await outcome(running, "process_forks")
        second = await outcome(running, "process_sleeps")
    assert (first.output, second.output) == ('"first"', '"second"')


async def test_ending_that_another_child_forges_does_not_count() -> None:
    """A run ends by what its own child says."""
    async with executing() as running:
        turn = turn_of("sleep_async", seconds=2)
        alone = start(running, turn, alone=True)
        await outcome(running, "greet", name="so that it runs")

        forged = await outcome(running, "forges", turn_id=turn.turn_id)

        assert forged.status is Status.FINISHED
        assert ((await alone).output, (await alone).run) == ('"slept"', 1)


@asynccontextmanager
async def parent_with_runs(tmp_path: Path) -> AsyncIterator[tuple[psutil.Process, list[psutil.Process]]]:
    """Another process with a command and a worker that run, and all of its processes."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    parent = psutil.Process(process.pid)
    found: list[psutil.Process] = []

    def all_run() -> bool:
        found[:] = parent.children(recursive=True)
        lines = [" ".join(one.cmdline()) for one in found if one.is_running()]
        return lines.count("sleep 600") == 2 and any("hasty.executor.worker" in line for line in lines)

    try:
        while b"up" not in await process.stdout.readline():
            pass
        await eventually(all_run, within_s=30)
        yield parent, found
    finally:
        for one in [parent, *found]:
            if one.is_running():
                one.kill()
        await process.communicate()


async def test_everything_ends_with_a_killed_job_server(tmp_path: Path) -> None:
    """Commands with all that they have started, and the processes of handlers."""
    async with parent_with_runs(tmp_path) as (parent, found):
        parent.send_signal(signal.SIGKILL)

        await eventually(lambda: all(is_gone(one.pid) for one in found))


async def test_everything_ends_with_a_stopped_child(tmp_path: Path) -> None:
    """One that can do nothing itself when its job-server is killed."""
    async with parent_with_runs(tmp_path) as (parent, found):
        child = next(one for one in found if "hasty.executor" in one.cmdline())
        child.suspend()
        parent.send_signal(signal.SIGKILL)

        await eventually(lambda: all(is_gone(one.pid) for one in found))


async def test_everything_ends_with_a_killed_child(tmp_path: Path) -> None:
    """Before its runs start again."""
    async with parent_with_runs(tmp_path) as (_parent, found):
        next(one for one in found if "hasty.executor" in one.cmdline()).kill()

        await eventually(lambda: all(is_gone(one.pid) for one in found))
