"""A stack in the foreground, as `make up` runs it: signals, exit codes, and lines on the terminal."""

import asyncio
import io
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hasty.server.local_stack import Stack
from hasty.server.local_stack.folder import Folder
from hasty.server.local_stack.resources import CODE
from hasty.server.local_stack.view import View, watch
from tests.eventually import eventually
from tests.servers import nats_server
from tests.stack.stacks import config, line_with, lives, pids, rest_of, supervised, told, works_in

pytestmark = pytest.mark.own_stack


async def local_stack(folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of `python -m hasty up` on `folder`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hasty", "up", "--folder", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=CODE,
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
    stops = [line.partition(" stopping (up to ")[2] for line in lines if " stopping (up to " in line]
    assert stops == ["5 s): nginx", "32 s): api-server-1", "32 s): job-server-1"]
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


async def test_second_stack_in_a_folder_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
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


async def test_wrong_settings_of_services_are_shown_before_a_start(tmp_path: Path) -> None:
    """All of them at once, in the services' own words, and exit code 2."""
    wrong = {"HASTY_COOLDOWN_S": "soon", "HASTY_JOB_CONCURRENCY": "0"}
    code, output = await local_stack(tmp_path, **wrong)
    assert (code, sorted(output.splitlines())) == (
        2,
        [
            "hasty: HASTY_COOLDOWN_S is 'soon': it must be a number of seconds from 0 to 1000000000",
            "hasty: HASTY_JOB_CONCURRENCY is '0': it must be a whole number from 1 to 1000000",
        ],
    )
    assert not (tmp_path / "logs").exists()


async def test_a_url_and_its_file_are_refused_before_a_start(tmp_path: Path) -> None:
    """The stack does not choose between them."""
    both = {"HASTY_NATS_URL": "nats://x", "HASTY_NATS_URL_FILE": "x"}
    code, output = await local_stack(tmp_path, **both)
    assert (code, output) == (2, "hasty: HASTY_NATS_URL and HASTY_NATS_URL_FILE are both set: set one of them")


async def test_a_url_from_a_file_replaces_the_stacks_own_broker(tmp_path: Path) -> None:
    """A relative path is the caller's. A misspelled variable is warned about where the caller sees it."""
    async with nats_server(tmp_path / "broker") as broker:
        (tmp_path / "nats_url").write_text(f"{broker.url}\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hasty", "up"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(CODE),
                "HASTY_HTTP_PORT": str(port),
                "HASTY_NATS_URL_FILE": "nats_url",
                "HASTY_COOLDOWN": "10",
            },
        )
        try:
            await line_with(
                process, "HASTY_COOLDOWN is not a setting of Hasty and is ignored: did you mean HASTY_COOLD"
            )
            await line_with(process, "Hasty answers on")
            names = {child["name"] for child in told(tmp_path / ".hasty")["children"]}
            process.send_signal(signal.SIGINT)
            code, _ = await rest_of(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (code, names) == (0, {"api-mongo", "job-mongo", "api-server-1", "job-server-1", "nginx"})


async def test_child_without_answers_is_reported_once_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not restarted: it may only be slow, and the services watch over themselves."""
    monkeypatch.setattr("hasty.server.local_stack.view.ASK_EVERY_S", 0.01)
    monkeypatch.setattr("hasty.server.local_stack.probes.PROBE_TIMEOUT_S", 1.0)
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
        await eventually(lambda: "job-server-1 is ready again" in output.getvalue())
        watching.cancel()
