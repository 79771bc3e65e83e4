"""A stack in the foreground, as `make up` runs it: signals, exit codes, and lines on the terminal."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from local_stack import Stack
from local_stack.folder import Folder
from local_stack.programs import ROOT
from local_stack.view import View, watch
from tests.eventually import eventually
from tests.stack.stacks import config, line_with, lives, pids, rest_of, supervised, told, works_in

pytestmark = pytest.mark.own_stack


async def local_stack(folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of `python -m local_stack up` on `folder`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local_stack", "up", "--folder", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    code, lines = await rest_of(process)
    return code, "\n".join(lines)


async def test_ctrl_c_ends_everything_in_order(tmp_path: Path) -> None:
    """Exit code 0, nothing left, nothing killed."""
    process = await supervised(tmp_path)
    await line_with(process, "Hasty answers on http://127.0.0.1:")
    processes = [*pids(tmp_path), *works_in(tmp_path)]
    process.send_signal(signal.SIGINT)
    code, lines = await rest_of(process)
    assert (code, [line for line in lines if "killed" in line or "again in" in line]) == (0, [])
    assert not any(lives(pid) for pid in processes)
    assert not (tmp_path / "stack.json").exists()


async def test_a_second_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    """Whoever hangs is not waited for."""
    process = await supervised(tmp_path, "--ignore-sigterm")
    await line_with(process, "Hasty answers on")
    processes = [*pids(tmp_path), *works_in(tmp_path)]
    api_server = told(tmp_path)["children"][0]["pid"]
    process.send_signal(signal.SIGINT)
    await eventually(lambda: "ignored" in (tmp_path / "logs" / "api-server-1.log").read_text())
    assert lives(api_server)
    process.send_signal(signal.SIGINT)
    code, _ = await rest_of(process)
    assert code == 130
    assert not any(lives(pid) for pid in processes)
    assert not (tmp_path / "stack.json").exists()


async def test_ctrl_c_while_starting_ends_what_was_started(tmp_path: Path) -> None:
    """Nobody has to wait for a start that leads nowhere."""
    process = await supervised(tmp_path, "--unready")
    await eventually(lambda: pids(tmp_path), within_s=30)
    processes = pids(tmp_path)
    process.send_signal(signal.SIGINT)
    code, _ = await rest_of(process)
    assert code == 0
    assert not any(lives(pid) for pid in processes)


async def test_no_child_survives_a_killed_supervisor(tmp_path: Path) -> None:
    """The kernel tells them, even of SIGKILL."""
    process = await supervised(tmp_path)
    await line_with(process, "Hasty answers on")
    processes = [*pids(tmp_path), *works_in(tmp_path)]
    assert len(processes) > 3
    process.kill()
    await rest_of(process)
    await eventually(lambda: not any(lives(pid) for pid in processes))


async def test_a_second_stack_in_the_folder_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """The line names who has it."""
    with Folder.claimed(tmp_path):
        code, output = await local_stack(tmp_path)
    assert code == 1
    assert output.startswith("hasty: a stack already runs in ")
    assert f"(pid {os.getpid()})" in output
    assert "\n" not in output


async def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """The line says what to do."""
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        number = taken.sockets[0].getsockname()[1]
        code, output = await local_stack(tmp_path, HASTY_HTTP_PORT=str(number))
    line = f"hasty: port {number} is in use: end what uses it, or choose another with HASTY_HTTP_PORT"
    assert (code, output) == (1, line)


async def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Before anything is started."""
    code, output = await local_stack(tmp_path, HASTY_HTTP_PORT="http")
    assert (code, output) == (2, "hasty: HASTY_HTTP_PORT is 'http': it must be a port from 1 to 65535")


async def test_a_child_that_answers_no_more_is_told_once_and_again_when_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not restarted: it may only be slow, and the services watch over themselves."""
    monkeypatch.setattr("local_stack.view.ASK_EVERY_S", 0.01)
    monkeypatch.setattr("local_stack.probes.PATIENCE_S", 1.0)
    output = io.StringIO()
    view = View(Console(file=output))
    silence = "job-server-1 gives no answer"
    async with Stack.running(config(tmp_path)) as stack:
        job_server = stack.children["job-server-1"]
        assert job_server.pid is not None
        ask = job_server.answers
        answers: list[str | None] = []

        async def asked() -> str | None:
            answers.append(await ask())
            return answers[-1]

        monkeypatch.setattr(job_server, "answers", asked)
        watching = asyncio.create_task(watch(stack, view))
        await eventually(lambda: answers)
        os.kill(job_server.pid, signal.SIGSTOP)
        await eventually(lambda: answers[-2:].count(None) == 0)
        assert output.getvalue().count(silence) == 1
        os.kill(job_server.pid, signal.SIGCONT)
        await eventually(lambda: "job-server-1 is well again" in output.getvalue())
        watching.cancel()
