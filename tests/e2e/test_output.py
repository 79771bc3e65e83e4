"""A process whose log cannot be written goes on: a full disk, a pipe nobody reads, an output that was closed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from hasty.server.local_stack.resources import CODE
from tests.eventually import eventually
from tests.loopback import unused_port

pytestmark = pytest.mark.own_stack

# Each leads file descriptor 2 somewhere else, and then becomes the program.
OUTPUTS = {
    "full disk": 'exec "$@" 2>/dev/full',
    "closed": 'exec "$@" 2>&-',
    "nobody reads": 'exec "$@" 2>"$BROKEN_PIPE"',
}


@asynccontextmanager
async def process(script: str, *command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command by a shell script; killed when the block is left."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HASTY_")}
    started = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", script, "sh", sys.executable, *command),
        cwd=CODE,
        env={**inherited, **environment},
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("service", ["api_server", "api_server.set_up", "job_server"])
async def test_service_runs_when_its_log_cannot_be_written(service: str, output: str, tmp_path: Path) -> None:
    """It serves, counts what it could not write, and ends with exit code 0 when it is asked to."""
    port, nobody = unused_port(), unused_port()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    environment = {
        "BROKEN_PIPE": str(pipe),
        "HASTY_BIND_PORT": str(port),
        "HASTY_NATS_URL": f"nats://127.0.0.1:{nobody}",
        "HASTY_API_MONGO_URL": f"mongodb://127.0.0.1:{nobody}",
        "HASTY_JOB_MONGO_URL": f"mongodb://127.0.0.1:{nobody}",
        "HASTY_LOG_LEVEL": "debug",
        "HASTY_FAULTS_DIR": str(tmp_path),
    }
    async with process(OUTPUTS[output], "-m", service, **environment) as started, httpx.AsyncClient() as client:
        # The writing end is open as soon as the program runs, so it is only now that nobody reads.
        await eventually(lambda: "python" in Path(f"/proc/{started.pid}/exe").readlink().name)
        os.close(reader)

        async def alive() -> bool:
            if started.returncode is not None:
                pytest.fail(f"ended with {started.returncode}")
            return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200

        await eventually(alive, within_s=30)
        metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        lost = next(line for line in metrics.splitlines() if line.startswith("hasty_log_writes_failed_total"))
        assert (float(lost.split()[-1]) > 0) == (output != "closed")
        started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await started.wait() == 0


# It hands out what it made in a folder of the test's, to a group that the test is in.
CREDENTIALS = """
import os, pathlib, runpy, sys
main = runpy.run_path("containers/credentials/make_credentials.py")["main"]
main.__globals__.update(ROOT=pathlib.Path(sys.argv[1]), MONGO_GROUP=os.getgid())
sys.exit(main([]))
"""
CREDENTIALS_OF = ("logins", "api-server", "job-server", "set-up", "nats", "api-mongo", "job-mongo")


@pytest.mark.parametrize("output", ['exec "$@" >/dev/full 2>&1', 'exec "$@" >&- 2>&-'], ids=["full disk", "closed"])
async def test_what_prepares_containers_needs_no_output(output: str, tmp_path: Path) -> None:
    """Its exit code is 0: with another one, `docker compose up` would start nothing that waits for it."""
    for name in (*CREDENTIALS_OF, "api-mongo-users", "job-mongo-users"):
        (tmp_path / name).mkdir()
    async with process(output, "-c", CREDENTIALS, str(tmp_path)) as started:
        assert await started.wait() == 0
    # Without an administrator it makes no users, and says who may use the database.
    wanted = json.loads((tmp_path / "api-mongo-users" / "wanted.json").read_text())
    (tmp_path / "wanted.json").write_text(json.dumps({**wanted, "roots": []}))
    async with process(output, "-m", "hasty.server.database_users", str(tmp_path / "wanted.json")) as started:
        assert await started.wait() == 0


@pytest.mark.starts_first
async def test_stack_runs_when_its_output_cannot_be_written(tmp_path: Path) -> None:
    """Also what it says on stdout is lost without harm."""
    arguments = ("-m", "hasty", "up", "--folder", str(tmp_path))
    script = 'exec "$@" >/dev/full 2>&1'
    async with process(script, *arguments, HASTY_HTTP_PORT=str(unused_port())) as started:

        def ready() -> bool:
            if started.returncode is not None:
                pytest.fail(f"ended with {started.returncode}")
            return bool(json.loads((tmp_path / "stack.json").read_text())["ready"])

        await eventually(ready, within_s=150)
        url = json.loads((tmp_path / "stack.json").read_text())["url"]
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, json={"object_id": "x"})
        assert answer.status_code == 201
        started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await started.wait() == 0
