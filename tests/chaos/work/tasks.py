"""The handlers of chaos runs: every way of running and every way to end, and those that do harm.

Each run is noted, see `run_log`. A handler that returns says whose job it did.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from typing import Any

from run_log import note, noted  # type: ignore[import-not-found]  # it stands beside this file

from hasty import Context, Fail, Retry, Snooze, command, job

# -- every way of running ------------------------------------------------------------------------------------------


@job(timeout_s=120)
async def quick(mark: str, seconds: float, ctx: Context) -> dict[str, str]:
    """Wait on the loop."""
    with noted(ctx):
        await asyncio.sleep(seconds)
        return {"job": ctx.job_id, "mark": mark}


@job(timeout_s=120)
def in_thread(mark: str, seconds: float, ctx: Context) -> dict[str, str]:
    """Wait in a thread, tell how far it is, and listen."""
    with noted(ctx):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ctx.progress(min(max(1 - left / seconds, 0), 1), mark)
            time.sleep(0.05)
        return {"job": ctx.job_id, "mark": mark}


@job(process=True, timeout_s=120)
def in_process(mark: str, seconds: float, ctx: Context) -> dict[str, str]:
    """Wait in a process of its own."""
    with noted(ctx):
        time.sleep(seconds)
        return {"job": ctx.job_id, "mark": mark}


_COMMAND = r"""
read -r input
line() {
  [ -n "$CHAOS_RUNS" ] && printf '{"what": "%s", "pid": %d, "at": %s, "kind": "in_command", "job_id": "%s", "attempt": %d, "run": %d, "how": "exit"}\n' \
    "$1" $$ "$(date +%s.%N)" "$HASTY_JOB_ID" "$HASTY_ATTEMPT" "$HASTY_RUN" >> "$CHAOS_RUNS/command-$$.jsonl"
}
line start
sleep 0.1
line end
printf '{"job": "%s"}' "$HASTY_JOB_ID"
"""  # noqa: E501 - a line of the shell

in_command = command("in_command", ["sh", "-c", _COMMAND], timeout_s=120)


@job(timeout_s=120)
async def lasting(mark: str, seconds: float, ctx: Context) -> dict[str, str]:
    """Take longer than the acknowledgement wait."""
    with noted(ctx):
        await asyncio.sleep(seconds)
        return {"job": ctx.job_id, "mark": mark}


# -- every way to end ----------------------------------------------------------------------------------------------


@job(retry=Retry(attempts=4, first_s=0.3, most_s=2), timeout_s=120)
async def flaky(mark: str, fails: int, ctx: Context) -> dict[str, str]:
    """Fail so many times first."""
    with noted(ctx):
        await asyncio.sleep(0.02)
        if ctx.attempt <= fails:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return {"job": ctx.job_id, "mark": mark}


@job(retry=Retry(attempts=4, first_s=0.3))
def gives_up(mark: str, ctx: Context) -> None:
    """Fail whatever the policy says."""
    with noted(ctx):
        raise Fail(mark)


@job(timeout_s=120)
async def snoozes(mark: str, until: float, ctx: Context) -> dict[str, str]:
    """Come again until it is time, in Unix seconds."""
    with noted(ctx):
        if time.time() < until:
            raise Snooze(0.4)
        return {"job": ctx.job_id, "mark": mark}


@job(timeout_s=0.5)
async def too_long(mark: str, ctx: Context) -> str:
    """Take longer than it may."""
    with noted(ctx):
        await asyncio.sleep(3600)
        return mark


@job
def bad_output(mark: str, ctx: Context) -> int:
    """Return what it said that it would not."""
    with noted(ctx):
        return mark  # type: ignore[return-value]  # on purpose


@job(at_most_once=True, timeout_s=120)
async def once(mark: str, seconds: float, ctx: Context) -> dict[str, str]:
    """Never run twice."""
    with noted(ctx):
        await asyncio.sleep(seconds)
        return {"job": ctx.job_id, "mark": mark}


@job(key="{name}", cooldown_s=2, timeout_s=120)
async def keyed(mark: str, name: str, seconds: float, ctx: Context) -> dict[str, str]:
    """One at a time, and not again too soon."""
    ctx.progress(0, name)
    with noted(ctx):
        await asyncio.sleep(seconds)
        return {"job": ctx.job_id, "mark": mark}


@job(timeout_s=120)
async def versioned(mark: str, ctx: Context) -> dict[str, str]:
    """Another version takes more, see `tasks_next`."""
    with noted(ctx):
        return {"job": ctx.job_id, "mark": mark}


# -- what does harm ------------------------------------------------------------------------------------------------


@job(timeout_s=60)
async def blocks_loop(mark: str, ctx: Context) -> dict[str, str]:
    """Hold up every other handler of the child for longer than a child may be deaf."""
    with noted(ctx):
        time.sleep(8)  # noqa: ASYNC251 - that is the harm
        return {"job": ctx.job_id, "mark": mark}


@job(timeout_s=1)
def never_returns(mark: str, ctx: Context) -> str:
    """Listen to nothing."""
    with noted(ctx):
        threading.Event().wait()
        return mark


@job
async def stops_itself(mark: str, ctx: Context) -> str:
    """Stand still for ever."""
    with noted(ctx):
        os.kill(os.getpid(), signal.SIGSTOP)
        return mark


@job
async def exits(ctx: Context, mark: str) -> None:
    """End the child."""
    with noted(ctx):
        note("harm", kind="exits", mark=mark)
        os._exit(3)


@job(timeout_s=60)
def forks(mark: str, ctx: Context) -> dict[str, str]:
    """Leave processes behind, with every descriptor that is open here."""
    with noted(ctx):
        for _ in range(2):
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
        return {"job": ctx.job_id, "mark": mark}


@job
async def writes_garbage(mark: str, ctx: Context) -> dict[str, str]:
    """Write what nobody understands to every socket of the child."""
    with noted(ctx):
        for descriptor in range(3, 256):
            _write_garbage(descriptor)
        await asyncio.sleep(1)
        return {"job": ctx.job_id, "mark": mark}


def _write_garbage(descriptor: int) -> None:
    try:
        one = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return
    try:
        one.send(b"\xff\x00 what is this?\n")
    except OSError:
        pass
    finally:
        one.close()


@job
def eats_memory(mark: str, ctx: Context) -> int:
    """Take memory until it is killed, as the kernel does where there is none left."""
    with noted(ctx):
        held: list[Any] = [bytearray(os.urandom(2**20)) * 8 for _ in range(12)]
        note("harm", kind="eats_memory", mark=mark)
        os.kill(os.getpid(), signal.SIGKILL)
        return len(held)
