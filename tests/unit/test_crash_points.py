"""Faults on command, in a real process; and that nothing of it exists without HASTY_FAULTS_DIR."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasty.server.runtime.crash_points import CrashPoint, clock_shift_s, crash_point, on_command
from tests.eventually import eventually
from tests.unit.child_process import ended, running, said

# Passes a point five times when told to `go`, and tells its clock's shift when told to `tell`.
PROGRAM = """
import asyncio, os, pathlib
from hasty.server.runtime.crash_points import CrashPoint, clock_shift_s, crash_point, on_command
from hasty.server.runtime.logs import configure, get_logger
from hasty.server.runtime.process import run

configure("program", "info", "json")
log = get_logger("program")

async def go():
    for passing in range(1, 6):
        crash_point(CrashPoint.JOB_MID_WORK)
        print(passing)
    print("passed")

async def tell():
    print(clock_shift_s())

async def main(stopping):
    on_command("go", go)
    on_command("tell", tell)
    print("up")
    while not stopping.is_set():
        {meanwhile}

folder = os.environ.get("HASTY_FAULTS_DIR")
run(main, silence_s=1, faults_dir=pathlib.Path(folder) if folder else None)
"""
IDLE = PROGRAM.format(meanwhile="await stopping.wait()")
# Its log goes nowhere, because nobody reads it while it runs.
LOGGING = "import sys; sys.stderr = open('/dev/null', 'w')\n" + PROGRAM.format(
    meanwhile="log.info('busy'); await asyncio.sleep(0)"
)


async def command(child: subprocess.Popen[str], folder: Path, *lines: str) -> None:
    """Give a child these commands; they have been read when this returns."""
    file = folder / str(child.pid)
    file.write_text("\n".join(lines))
    child.send_signal(signal.SIGUSR2)
    await eventually(lambda: not file.exists(), every_s=0.002)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that takes commands from `tmp_path`."""
    with running(IDLE, HASTY_FAULTS_DIR=str(tmp_path)) as process:
        said(process, "up")
        yield process


@pytest.mark.parametrize(("line", "passings"), [("crash job.mid_work", ""), ("crash job.mid_work 3", "1\n2\n")])
async def test_a_process_kills_itself_at_the_nth_passing(
    child: subprocess.Popen[str], tmp_path: Path, line: str, passings: str
) -> None:
    """At that passing and not before."""
    await command(child, tmp_path, line, "go")
    assert ended(child)[:2] == (-signal.SIGKILL, passings)


async def test_other_points_are_passed(child: subprocess.Popen[str], tmp_path: Path) -> None:
    """Only the point that was named kills."""
    await command(child, tmp_path, "crash job.after_ack", "go")
    said(child, "passed")
    child.terminate()
    assert ended(child)[0] == 0


async def test_the_clock_is_shifted(child: subprocess.Popen[str], tmp_path: Path) -> None:
    """In either direction, by seconds."""
    await command(child, tmp_path, "clock -90.5", "tell")
    said(child, "-90.5")


async def test_a_blocked_loop_is_noticed(child: subprocess.Popen[str], tmp_path: Path) -> None:
    """The fault is a real one: the watchdog ends the process."""
    await command(child, tmp_path, "block 600")
    assert ended(child)[0] == 70


async def test_unknown_command_is_reported_and_does_no_harm(child: subprocess.Popen[str], tmp_path: Path) -> None:
    """Nor does a signal without a file."""
    child.send_signal(signal.SIGUSR2)
    assert child.stderr is not None
    assert any("no fault to inject" in line for line in child.stderr)
    await command(child, tmp_path, "explode", "crash", "crash job.mid_work soon", "clock", "", "go")
    said(child, "passed")
    child.terminate()
    code, _, errors = ended(child)
    assert code == 0
    assert "not a fault: explode" in errors


async def test_commands_may_come_in_the_middle_of_a_log_line(tmp_path: Path) -> None:
    """The handler interrupts whatever runs, so it must not need a lock that may be held."""
    with running(LOGGING, HASTY_FAULTS_DIR=str(tmp_path)) as busy:
        said(busy, "up")
        for shift in range(300):
            await command(busy, tmp_path, f"clock {shift}")
        busy.terminate()
        assert ended(busy)[0] == 0


async def test_without_a_folder_the_signal_does_what_it_always_does(tmp_path: Path) -> None:
    """SIGUSR2 then means to the process what it means to any other: its end."""
    with running(IDLE) as unarmed:
        said(unarmed, "up")
        file = tmp_path / str(unarmed.pid)
        file.write_text("go")
        unarmed.send_signal(signal.SIGUSR2)
        assert ended(unarmed)[:2] == (-signal.SIGUSR2, "")
        assert file.exists()


def test_without_the_folder_all_of_it_does_nothing() -> None:
    """Here, in this process, which was started without it."""
    assert "HASTY_FAULTS_DIR" not in os.environ
    on_command("go", _never)
    crash_point(CrashPoint.JOB_MID_WORK)
    assert clock_shift_s() == 0.0


async def _never() -> None:
    raise AssertionError("nobody commands here")
