"""Handlers in tests: with policy and checks, without a server."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hasty.testing
from hasty import Context, Fail, HandlerError, Retry, Snooze, command, job
from hasty.testing import InputRefused


@job
async def greet(name: str) -> str:
    """Say hello."""
    await asyncio.sleep(0)
    return f"hello {name}"


@job(retry=Retry(attempts=3, first_s=2, most_s=60))
def resize(url: str, width: int, ctx: Context) -> dict[str, int]:
    """Do as the input says."""
    ctx.progress(0.5, f"half of {url}")
    if width > 9000:
        raise Fail("too wide")
    if width == 30:
        raise Snooze(30)
    if width < 0:
        raise ValueError("negative")
    return {"bytes": width, "run": ctx.run}


@job(process=True)
def train(rows: int) -> float:
    """Compute."""
    return rows / 2


@job(timeout_s=0.000001)
def late() -> None:
    """Take longer than it may."""


echo = command("echo", ["cat"])
refuse = command("refuse", ["sh", "-c", "echo no good >&2; exit 65"])
floods = command("floods", ["sh", "-c", "yes | head -c 2000000"])
missing = command("missing", ["/no/such/program"])


def test_handler_stays_a_plain_function() -> None:
    """It can be called as what it is."""
    assert asyncio.run(greet("Ada")) == "hello Ada"
    assert train(3) == 1.5


def test_every_way_of_running_gives_its_output() -> None:
    """As JSON would bring it back."""
    assert hasty.testing.run(greet, {"name": "Ada"}).output == "hello Ada"
    assert hasty.testing.run(resize, {"url": "u", "width": 1}, run=2).output == {"bytes": 1, "run": 2}
    assert hasty.testing.run(train, {"rows": 3}).output == 1.5
    assert hasty.testing.run(echo, {"a": 1}).output == {"a": 1}


async def test_async_handler_runs_within_a_running_loop() -> None:
    """As in a test that is async itself."""
    assert hasty.testing.run(greet, {"name": "Ada"}).output == "hello Ada"


def test_fail_is_final() -> None:
    """Whatever the policy."""
    outcome = hasty.testing.run(resize, {"url": "u", "width": 9999})

    assert outcome.error is not None
    assert (outcome.status, outcome.error.reason, outcome.error.message) == ("failed", "failed_by_handler", "too wide")
    assert outcome.progress == [(0.5, "half of u")]


@pytest.mark.parametrize(("attempt", "expected"), [(1, ("again", 2)), (2, ("again", 4)), (3, ("failed", None))])
def test_policy_says_when_the_next_attempt_comes(attempt: int, expected: tuple[str, float | None]) -> None:
    """None after the last one."""
    outcome = hasty.testing.run(resize, {"url": "u", "width": -1}, attempt=attempt)

    assert (outcome.status, outcome.retry_in_s) == expected
    assert outcome.error is not None
    assert (outcome.error.reason, outcome.error.type) == ("exception", "ValueError")


def test_snooze_cancel_and_timeout_are_told() -> None:
    """Each as what it is."""
    assert hasty.testing.run(resize, {"url": "u", "width": 30}).retry_in_s == 30
    assert hasty.testing.run(resize, {"url": "u", "width": 3}, cancelled=True).status == "cancelled"
    late_outcome = hasty.testing.run(late)
    assert late_outcome.error is not None
    assert late_outcome.error.reason == "timeout"


def test_command_that_fails_says_why() -> None:
    """Exit code 65 is Fail; too much output is none; a program that is not there is an error."""
    outcome = hasty.testing.run(refuse)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.message) == ("failed", "no good")
    flood = hasty.testing.run(floods)
    assert flood.error is not None
    assert (flood.error.reason, "more than 1048576 bytes" in flood.error.message) == ("bad_output", True)
    absent = hasty.testing.run(missing)
    assert absent.error is not None
    assert "cannot be started" in absent.error.message


@pytest.mark.parametrize("values", [{}, {"name": 1}, {"name": "x", "more": 1}])
def test_input_that_does_not_fit_is_refused(values: dict[str, object]) -> None:
    """As when it is posted."""
    with pytest.raises(InputRefused):
        hasty.testing.run(greet, values)


def test_what_is_no_handler_is_refused() -> None:
    """With what to do."""
    with pytest.raises(HandlerError, match="write @job above"):
        hasty.testing.run(print)


def hasty_run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `hasty run` in a folder."""
    command_line = [sys.executable, "-m", "hasty", "run", *arguments]
    return subprocess.run(command_line, cwd=folder, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603


CODE = """
from hasty import Fail, job

@job
async def greet(name: str, times: int = 1, loud: bool = False) -> str:
    if name == "nobody":
        raise Fail("there is nobody")
    return (name.upper() if loud else name) * times
"""


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "output", "error"),
    [
        (["greet", "name=Ada"], "", 0, "Ada", ""),
        (["greet", "name=7", "times=2", "loud=true"], "", 0, "77", ""),
        (["greet", "--input", "-", "times=2"], '{"name": "Ada"}', 0, "AdaAda", ""),
        (["greet", "name=nobody"], "", 1, None, "there is nobody"),
        (["greet", "times=2"], "", 2, None, "Field required"),
        (["greet", "name=Ada", "times=x"], "", 2, None, "times is 'x': it must be integer"),
        (["greet", "Ada"], "", 2, None, "write name=value"),
        (["greet", "--input", "-"], "[1]", 2, None, "must be a JSON object"),
        (["greeet", "name=Ada"], "", 2, None, "only greet"),
    ],
)
def test_hasty_run_runs_a_handler(
    tmp_path: Path, arguments: list[str], stdin: str, code: int, output: str | None, error: str
) -> None:
    """Its output alone goes to standard output."""
    (tmp_path / "tasks.py").write_text(CODE)

    done = hasty_run(tmp_path, "tasks.py", *arguments, stdin=stdin)

    assert done.returncode == code, done.stderr
    assert (json.loads(done.stdout) if done.stdout else None) == output
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_hasty_run_says_which_file_is_missing(tmp_path: Path) -> None:
    """And what would be right."""
    done = hasty_run(tmp_path, "nothing.py", "greet")

    assert done.returncode == 2
    assert "there is no file nothing.py" in done.stderr
