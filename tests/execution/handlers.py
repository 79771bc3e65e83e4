"""Handlers that do what handlers may do, and what they should not."""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from hasty import Cancelled, Context, Fail, Retry, Snooze, command, job


@job
async def greet(name: str) -> str:
    """Say hello."""
    print("greeting", name)  # noqa: T201
    return f"hello {name}"


@job(retry=Retry(attempts=3, first_s=0.1, most_s=1))
def resize(url: str, width: int, ctx: Context) -> dict[str, int]:
    """Do as the input says."""
    ctx.progress(0.5, f"half of {url}")
    if width > 9000:
        raise Fail("too wide")
    if width == 30:
        raise Snooze(30)
    if width < 0:
        raise ValueError("negative")
    return {"bytes": width}


@job(process=True)
def train(rows: int, ctx: Context) -> list[int]:
    """Tell which process it is."""
    ctx.progress(0.25, "a quarter")
    print("training")  # noqa: T201
    return [rows, os.getpid()]


@job(timeout_s=0.3)
async def late_async() -> None:
    """Take longer than it may."""
    await asyncio.sleep(60)


@job(timeout_s=0.3)
def late_thread(ctx: Context) -> None:
    """Take longer than it may, and listen."""
    while True:
        ctx.check()
        time.sleep(0.01)


@job(timeout_s=0.3, process=True)
def late_process() -> None:
    """Take longer than it may."""
    time.sleep(60)


late_command = command("late_command", ["sleep", "60"], timeout_s=0.3)
echo = command("echo", ["cat"])
refuse = command("refuse", ["sh", "-c", "echo no good >&2; exit 65"])
broken = command("broken", ["sh", "-c", "echo oops >&2; exit 3"])
floods = command("floods", ["sh", "-c", "echo flooding >&2; yes | head -c 50000000; exit 65"])
floods_exactly = command("floods_exactly", ["sh", "-c", "head -c 1048574 /dev/zero | tr '\\0' ' '; echo 7"])
chatty = command("chatty", ["echo", "no json"])


@job
async def sleep_async(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "slept"


@job
def sleep_thread(seconds: float, ctx: Context) -> str:
    """Sleep, and listen."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ctx.cancelled:
            raise Cancelled
        time.sleep(0.01)
    return "slept"


@job(process=True)
def sleep_process(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "slept"


sleep_command = command("sleep_command", ["sh", "-c", "sleep 60"])


@job
async def exits() -> None:
    """Leave."""
    os._exit(1)


@job
async def kills_itself() -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


@job
async def calls_sys_exit() -> None:
    """Want to leave."""
    sys.exit(7)


@job
async def raises_async() -> None:
    """Fail."""
    raise ValueError("no")


@job(process=True)
async def raises_process() -> None:
    """Fail, on a loop of its process."""
    raise ValueError("no")


@job
async def blocks() -> None:
    """Block the loop."""
    time.sleep(600)  # noqa: ASYNC251


@job
async def stops_itself() -> None:
    """Be frozen."""
    os.kill(os.getpid(), signal.SIGSTOP)


@job(timeout_s=0.2)
def never_listens(mark: str) -> None:
    """Neither end nor listen."""
    Path(mark).write_text("begun")
    threading.Event().wait()


@job
async def forks() -> str:
    """Leave a process behind."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)  # noqa: ASYNC251
        os._exit(0)
    return str(pid)


@job
async def writes_garbage() -> str:
    """Write to every descriptor there is."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"garbage\n")
        except OSError:
            continue
    return "wrote"


@job
async def hangs_up() -> None:
    """Close the connection to the job-server, and go on."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
    await asyncio.Event().wait()


@job(process=True)
def eats_memory() -> int:
    """Take more memory than there is for it."""
    resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))
    eaten = []
    while True:
        eaten.append(bytearray(10 * 2**20))


@job(process=True)
def dies_in_process() -> None:
    """Die of a fault."""
    ctypes.string_at(0)


@job
def returns(what: str) -> object:
    """Return what is no JSON."""
    return {
        "a set": {1},
        "too much": "x" * 10_000_000,
        "nan": float("nan"),
        "an object": object(),
        "a surrogate": "\ud800",
        "deep": [*range(3)],
    }[what]


@job
def typed(when: datetime) -> int:
    """Return another type than it says."""
    return str(when)  # type: ignore[return-value]


@job(at_most_once=True)
async def once() -> None:
    """Run once, at most."""


@job(at_most_once=True)
async def once_only() -> None:
    """Die, and never run again."""
    os._exit(1)


@job
async def tells(ctx: Context) -> dict[str, object]:
    """Tell what it knows of its run."""
    ctx.log.info("told", more=1)
    return {
        "job_id": ctx.job_id,
        "kind": ctx.kind,
        "attempt": ctx.attempt,
        "run": ctx.run,
        "key": ctx.idempotency_key,
        "labels": list(ctx.labels),
        "left_s": (ctx.deadline - datetime.now(ctx.deadline.tzinfo)).total_seconds(),
    }


@job
async def environment() -> list[str]:
    """Tell which settings of Hasty it can see."""
    return sorted(name for name in os.environ if name.startswith("HASTY_"))


@job
async def both_return() -> str:
    """Go on twice: what forked it returns as well."""
    return str(os.fork())


@job
async def both_wait() -> str:
    """Wait twice, where everybody's runs go on."""
    forked = os.fork()
    await asyncio.sleep(0.2)
    return str(forked)


@job
async def forks_among_others() -> str:
    """Fork while others are about to run."""
    loop = asyncio.get_running_loop()
    for _ in range(10):
        loop.create_task(_nothing())  # noqa: RUF006 - the loop alone is to keep them
    return str(os.fork())


async def _nothing() -> None: ...


@job
async def leaves_a_session() -> int:
    """Start what outlives everybody, with its parent's output."""
    started = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    return started.pid


@job
def thread_forks(*, session: bool) -> str:
    """Leave a process behind, in a session of its own if wanted."""
    forked = os.fork()
    if forked == 0:
        if session:
            os.setsid()
        time.sleep(600)
    return str(forked)


@job(process=True)
def process_forks() -> str:
    """Return twice, the second time when the next run has begun."""
    if os.fork() == 0:
        time.sleep(0.4)
        return "forged"
    return "first"


@job(process=True)
def process_sleeps() -> str:
    """Be there when a fork of the run before returns."""
    time.sleep(1)
    return "second"


@job
async def forges(turn_id: str) -> str:
    """Write the ending of another run to every socket there is."""
    outcome = {"status": "finished", "output": '"forged"', "started_at": 1, "ended_at": 2}
    line = json.dumps([["ended", turn_id, outcome], ["lost", turn_id], ["stuck", turn_id]]).encode() + b"\n"
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(descriptor)).sendall(line)
    return "forged"


leaves_behind = command("leaves_behind", ["sh", "-c", "trap '' TERM; sleep 600 & sleep 600 & wait"])
LEAVE_A_DAEMON = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
leaves_a_daemon = command("leaves_a_daemon", [sys.executable, "-c", LEAVE_A_DAEMON])
talks_a_lot = command("talks_a_lot", ["sh", "-c", "yes nothing | head -c 5000000 >&2; echo oops >&2; exit 65"])


@job
def prints_a_lot(lines: int) -> str:
    """Print a flood."""
    for number in range(lines):
        print("flood", number)  # noqa: T201
    return "printed"


@job
def prints_one_line(characters: int) -> str:
    """Print a line that does not end."""
    print("x" * characters)  # noqa: T201
    return "printed"


@job
def writes_a_lot(size: int) -> str:
    """Write a flood past Python, as programs do that it starts."""
    written = 0
    while written < size:
        written += os.write(2, b"flood\n" * 10_000)
    return "written"
