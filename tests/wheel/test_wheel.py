"""The wheel, installed where nothing else is: what users get."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

import hasty
from tests.eventually import eventually
from tests.stack.stacks import line_with, rest_of, works_in
from tests.wheel.environment import Environment, run

pytestmark = pytest.mark.own_stack

IMPORT_MAY_TAKE_S = 0.06
# Prints what `import hasty` loads, and the processor time it takes: unlike the time by the clock, it is not longer on
# a busy machine.
IMPORTING = """
import json, sys, time
before, started = set(sys.modules), time.process_time()
import hasty
took_s = time.process_time() - started
print(json.dumps({"took_s": took_s, "loaded": sorted(set(sys.modules) - before)}))
"""
ROGUE = "import pathlib; pathlib.Path(__file__).with_suffix('.imported').touch(); raise SystemExit('not ours')\n"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache, empty at first."""
    return tmp_path_factory.mktemp("cache")


@asynccontextmanager
async def up(server: Environment, folder: Path, cache: Path) -> AsyncIterator[str]:
    """`hasty up` in `folder` until the block is left; its URL. It must end in order then."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"HASTY_HTTP_PORT": str(port), "HASTY_JOB_SLEEP_MIN_S": "0.1", "HASTY_JOB_SLEEP_MAX_S": "0.2"}
    process = await asyncio.create_subprocess_exec(
        *(server.hasty, "up"),
        cwd=folder,
        env=server.variables(XDG_CACHE_HOME=str(cache), **settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await line_with(process, "Hasty answers on", within_s=180)  # SecantusDB is downloaded before
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        code, lines = await rest_of(process)
        assert code == 0, lines
        assert works_in(folder) == []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def finished(url: str) -> Mapping[str, object]:
    """A job that was posted to `url`, once it is finished."""
    async with httpx.AsyncClient(base_url=url) as caller:
        for path in ("/ui/", "/ui/app.js", "/ui/vendor/lit-html/lit-html.js"):
            assert (await caller.get(path)).status_code == 200, path
        posted = await caller.post("/", json={"object_id": "x"})
        assert posted.status_code == 201, posted.text
        job: dict[str, object] = {}

        async def has_finished() -> bool:
            job.update((await caller.get(posted.headers["location"])).json()["message"])
            return job["status"] == "finished"

        await eventually(has_finished, within_s=30)
        return job


def found(folder: Path, pattern: str = "*") -> list[str]:
    """The names of what is in a folder."""
    return sorted(path.name for path in folder.glob(pattern))


def test_without_servers_the_command_says_how_to_get_them(client: Environment, tmp_path: Path) -> None:
    """The base installation has the client, knows its version and commands, and names the extra that is missing."""
    assert run(client.hasty, "--version", cwd=tmp_path, env=client.variables()) == f"hasty {hasty.__version__}\n"
    assert "up " in run(client.hasty, "--help", cwd=tmp_path, env=client.variables())
    command = [client.hasty, "up"]
    answer = subprocess.run(  # noqa: S603 - all ours
        command, cwd=tmp_path, env=client.variables(), capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert answer.stderr.endswith("pip install 'hasty-jobs[server]'\n")
    assert list(tmp_path.iterdir()) == []
    script = "from hasty.client import AsyncHasty, Hasty; print(Hasty().url)"
    assert run(client.python, "-P", "-c", script, cwd=tmp_path, env=client.variables()) == "http://localhost:8080\n"
    for asking in ("workers", "doctor", "top"):
        command = [client.hasty, asking, "--url", "http://127.0.0.1:9"]
        away = subprocess.run(  # noqa: S603 - all ours
            command, cwd=tmp_path, env=client.variables(), capture_output=True, text=True, check=False
        )
        assert (away.returncode, "Traceback" in away.stderr) == (7, False), away.stderr


def test_import_is_light(server: Environment, tmp_path: Path) -> None:
    """Whoever imports hasty waits for no server's libraries, installed or not."""
    imports = [
        json.loads(run(server.python, "-P", "-c", IMPORTING, cwd=tmp_path, env=server.variables())) for _ in range(5)
    ]
    loaded = {name.partition(".")[0] for name in imports[0]["loaded"]}
    assert "hasty" in loaded
    assert not loaded & {"motor", "pymongo", "nats", "uvicorn", "fastapi", "click", "rich", "httpx2"}
    assert "hasty.client" not in imports[0]["loaded"]
    assert min(each["took_s"] for each in imports) < IMPORT_MAY_TAKE_S


def test_help_loads_no_servers(server: Environment, tmp_path: Path) -> None:
    """`hasty --help` is quick."""
    script = "import sys; from hasty.cli.app import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    output = run(server.python, "-P", "-c", script, cwd=tmp_path, env=server.variables())
    loaded = output.splitlines()[-1].split()
    assert "hasty.cli.up" in loaded
    assert not {"hasty.server", "motor", "nats", "uvicorn", "psutil"} & set(loaded)


async def test_up_runs_everything_in_an_empty_folder(server: Environment, cache: Path, tmp_path: Path) -> None:
    """Without pip and uv, too: the database comes by the pip that Python brings along. Data stays in .hasty."""
    pip = "import importlib.util as util; print(util.find_spec('pip'))"
    assert run(server.python, "-c", pip, env=server.variables()) == "None\n"
    async with up(server, tmp_path, cache) as url:
        job = await finished(url)
    assert job["object_id"] == "x"
    assert found(tmp_path) == [".hasty"]
    assert found(tmp_path / ".hasty" / "data") == ["api-mongo", "job-mongo", "nats"]
    assert found(cache / "hasty", "secantusdb-*/secantusdb.scripts/secantusd-rs") == ["secantusd-rs"]


def test_uv_downloads_the_database_where_there_is_no_pip(server: Environment, tmp_path: Path) -> None:
    """As in an environment that uv made."""
    uv = Path(find_uv_bin())
    script = "from hasty.server.local_stack.programs import secantusd; print(secantusd())"
    env = server.variables(
        PATH=f"{uv.parent}:/usr/bin:/bin", XDG_CACHE_HOME=str(tmp_path), UV_CACHE_DIR=str(tmp_path / "uv")
    )
    program = run(server.python, "-P", "-c", script, env=env).strip()
    assert program.startswith(str(tmp_path / "hasty"))
    assert run(program, "--version").startswith("secantusd-rs ")
    assert found(tmp_path / "uv", "CACHEDIR.TAG") == ["CACHEDIR.TAG"], "it was not uv that downloaded it"


async def test_up_imports_nothing_from_the_folder(server: Environment, cache: Path, tmp_path: Path) -> None:
    """A user's api_server.py is not ours."""
    rogues = ("api_server", "job_server", "hasty", "nats", "pip")
    for name in rogues:
        (tmp_path / f"{name}.py").write_text(ROGUE)
    async with up(server, tmp_path, cache) as url:
        await finished(url)
    assert found(tmp_path, "*.imported") == []
