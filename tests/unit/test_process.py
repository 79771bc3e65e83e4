"""How a process lives and ends, seen from outside: each test is a real process."""

import json
import signal
import time

import pytest

from tests.eventually import eventually
from tests.unit.child_process import ended, running, said

# A whole program around one `main`; `up` on stdout says that signals are handled from now on.
PROGRAM = """
import asyncio, time
from hasty.server.runtime.logs import configure, get_logger
from hasty.server.runtime.process import FatalExit, Stopping, run

configure("program", "info", {fmt!r})
log = get_logger("program")

async def raise_in_task_group(*errors):
    async def fail(error):
        raise error
    async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
        for error in errors:
            inner.create_task(fail(error))

async def main(stopping):
    print("up")
    {main}

run(main, silence_s={silence_s})
"""


def program(main: str, *, silence_s: float = 20, fmt: str = "json") -> str:
    """The source of a program with this body of `main`."""
    body = "\n    ".join(main.strip().splitlines())
    return PROGRAM.format(main=body, silence_s=silence_s, fmt=fmt)


@pytest.mark.parametrize(("returned", "code"), [("None", 0), ("0", 0), ("3", 3)])
def test_what_main_returns_is_the_exit_code(returned: str, code: int) -> None:
    """None is a clean end like 0."""
    with running(program(f"return {returned}")) as child:
        assert ended(child)[::2] == (code, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_main_finish_and_says_which_it_was(number: signal.Signals) -> None:
    """The first signal only asks."""
    with running(program("await stopping.wait()\nprint(stopping.is_set(), stopping.reason)")) as child:
        said(child, "up")
        child.send_signal(number)
        assert ended(child) == (0, f"True {number.name}\n", "")


def test_the_first_reason_to_stop_stays() -> None:
    """A later reason does not hide the real one."""
    with running(program("stopping.set('first')\nstopping.set('second')\nprint(stopping.reason)")) as child:
        assert ended(child) == (0, "up\nfirst\n", "")


def test_a_second_signal_ends_the_process_at_once() -> None:
    """Even when main never ends by itself."""
    with running(program("await stopping.wait()\nprint('stopping')\nawait asyncio.sleep(600)")) as child:
        said(child, "up")
        child.send_signal(signal.SIGTERM)
        said(child, "stopping")
        child.send_signal(signal.SIGTERM)
        assert ended(child)[0] == 130


async def test_repeated_signals_end_a_process_whose_loop_is_blocked() -> None:
    """A blocked loop cannot be asked, so it must not be needed."""
    with running(program("time.sleep(600)")) as child:
        said(child, "up")

        # Signals in quick succession are one signal to the system, so there is no saying which is the second.
        def gone() -> bool:
            child.send_signal(signal.SIGTERM)
            return child.poll() is not None

        await eventually(gone)
        assert child.returncode == 130


def test_fatal_exit_in_task_groups_ends_with_its_code_and_a_line() -> None:
    """However deep it is wrapped."""
    with running(program("await raise_in_task_group(FatalExit(70, 'the client is closed'))")) as child:
        code, _, errors = ended(child)
    assert code == 70
    (line,) = errors.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["reason"], logged["exit_code"]) == ("fatal_exit", "the client is closed", 70)


def test_unknown_failure_ends_with_1_and_details_in_a_json_line() -> None:
    """Nobody sees a raw traceback, and nothing of it is lost."""
    with running(program("await raise_in_task_group(ValueError('no such thing'))")) as child:
        code, _, errors = ended(child)
    assert code == 1
    (line,) = errors.splitlines()
    (failure,) = json.loads(line)["exception"]
    assert (failure["exc_type"], failure["exc_value"]) == ("ValueError", "no such thing")
    assert "fail" in {frame["name"] for frame in failure["frames"]}


def test_unknown_failure_is_one_line_that_names_the_place() -> None:
    """On a terminal likewise."""
    with running(program("await raise_in_task_group(ValueError('no such thing'))", fmt="text")) as child:
        code, _, errors = ended(child)
    assert code == 1
    (line,) = errors.splitlines()
    assert "ValueError: no such thing (fail <string>:" in line


def test_failures_beside_a_leave_are_logged_and_its_code_is_kept() -> None:
    """One reason to end must not swallow another."""
    with running(program("await raise_in_task_group(KeyError('lost'), FatalExit(70, 'silent'))")) as child:
        code, _, errors = ended(child)
    assert code == 70
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["unexpected_failure", "fatal_exit"]


def test_system_exit_from_a_task_ends_the_process_with_its_code() -> None:
    """As uvicorn does when its port is taken."""
    with running(program("await raise_in_task_group(SystemExit(1))")) as child:
        code, _, errors = ended(child)
    assert (code, errors) == (1, "")


def test_blocked_loop_ends_with_70_and_names_the_place() -> None:
    """Where the loop hangs is what one needs to know afterwards."""
    with running(program("def hang():\n    time.sleep(600)\nhang()", silence_s=1)) as child:
        code, _, errors = ended(child)
    assert code == 70
    assert json.loads(errors.splitlines()[0])["event"] == "event_loop_blocked"
    assert "in hang" in errors


def test_loop_blocked_by_its_own_log_pipe_ends_with_70() -> None:
    """The report cannot be written then, and must not hold up the end."""
    with running(program("while True:\n    log.info('x' * 1000)", silence_s=1)) as child:
        assert child.wait() == 70


async def test_a_process_that_was_stopped_is_not_taken_for_blocked() -> None:
    """SIGSTOP and a sleeping machine stop the watch as well."""
    with running(
        program("while not stopping.is_set():\n    print(time.monotonic())\n    await asyncio.sleep(0.05)", silence_s=1)
    ) as child:
        said(child, "up")
        child.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        await eventually(lambda: time.monotonic() > stopped_at + 2.5)
        child.send_signal(signal.SIGCONT)
        resumed_at = time.monotonic()
        assert child.stdout is not None
        assert any(float(line) > resumed_at + 1.0 for line in child.stdout), "it ended instead of going on"
        child.send_signal(signal.SIGTERM)
        assert ended(child)[0] == 0


def test_a_thread_that_never_ends_does_not_hold_up_the_end() -> None:
    """A driver's thread may wait for a frozen server for ever."""
    started_at = time.monotonic()
    with running(program("asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)\nreturn 3")) as child:
        assert ended(child)[0] == 3
    assert time.monotonic() - started_at < 20
