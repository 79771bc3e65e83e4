"""A process of its own for what a process can do only once: signals, exit codes, the configuration of its logs."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Far above what any of them needs, so that a hanging child is a failure and not a hanging test run.
LIFETIME_S = 40.0


@contextmanager
def running(code: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code as a child with pipes; it is gone when the context is left.

    The child sees this environment without any HASTY_ variable but the given ones.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HASTY_")}
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with code from the test
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(LIFETIME_S, process.kill)
    killer.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        killer.cancel()
        killer.join()


def said(process: subprocess.Popen[str], line: str) -> None:
    """Read the child's output up to this line; AssertionError when it ends before."""
    assert process.stdout is not None
    for heard in process.stdout:
        if heard.strip() == line:
            return
    raise AssertionError(f"the child ended without saying {line!r}: {process.communicate()[1]}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the child's end: its exit code, the rest of its output, and its stderr."""
    output, errors = process.communicate()
    return process.returncode, output, errors
