"""Children of a stack: started, restarted, scaled and ended, with nothing left behind."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from hasty.server.local_stack import Link, Stack, StackError
from hasty.server.local_stack.errors import MissingProgramError, PortInUseError, WouldNotStartError
from hasty.server.local_stack.ports import Port
from hasty.server.local_stack.process import LAUNCH, started
from tests.eventually import eventually
from tests.stack.stacks import config, lives, pids, standin, told, works_in

pytestmark = pytest.mark.own_stack


async def seen(url: str, method: str = "GET", path: str = "/x") -> dict[str, object]:
    """What the service behind nginx saw of a request."""
    async with httpx.AsyncClient(base_url=url) as client:
        response = await client.request(method, path)
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def settings_of(log: Path) -> dict[str, str]:
    """The HASTY_* that a stand-in got at its last start."""
    line = [line for line in log.read_text().splitlines() if line.startswith("serving ")][-1]
    settings: dict[str, str] = json.loads(line.removeprefix("serving "))
    return settings


async def test_everything_answers_and_nothing_is_left_afterwards(tmp_path: Path) -> None:
    """Ready when entered, gone when left: processes, ports and stack.json."""
    async with Stack.running(config(tmp_path)) as stack:
        assert (await seen(stack.url))["pid"] == stack.children["api-server-1"].pid
        processes = [*pids(tmp_path), *works_in(tmp_path)]
        assert len(processes) > 3
    assert not any(lives(pid) for pid in processes)
    assert not (tmp_path / "stack.json").exists()
    with pytest.raises(httpx.ConnectError):
        await seen(stack.url)


async def test_everything_is_gone_when_the_inside_fails(tmp_path: Path) -> None:
    """An error of the caller is not the children's freedom."""
    processes: list[int] = []

    async def failing() -> None:
        async with Stack.running(config(tmp_path)):
            processes.extend(pids(tmp_path))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert len(processes) == 3
    assert not any(lives(pid) for pid in processes)


async def test_stack_json_is_true_while_children_come_and_go(tmp_path: Path) -> None:
    """Every child with its pid and address; the pid is null while it is down."""
    async with Stack.running(config(tmp_path, job_servers=2)) as stack:
        assert told(tmp_path)["url"] == stack.url
        assert told(tmp_path)["ready"] is True
        entries = {child["name"]: child for child in told(tmp_path)["children"]}
        assert set(entries) == set(stack.children) == {"api-server-1", "job-server-1", "job-server-2", "nginx"}
        for name, child in stack.children.items():
            assert (entries[name]["pid"], entries[name]["address"]) == (child.pid, child.address)
        await stack.children["job-server-2"].stay_down()
        assert [child["pid"] for child in told(tmp_path)["children"] if child["name"] == "job-server-2"] == [None]
        await stack.children["job-server-2"].start()
        assert stack.children["job-server-2"].pid in pids(tmp_path)


@pytest.mark.parametrize("name", ["api-server-1", "job-server-1", "nginx"])
async def test_killed_child_is_restarted_on_its_port_and_reported(tmp_path: Path, name: str) -> None:
    """One line for the death, one for the return."""
    lines: list[str] = []
    async with Stack.running(config(tmp_path), lines.append) as stack:
        child = stack.children[name]
        pid, address = child.pid, child.address
        await child.kill()
        await child.ready(10)
        assert (child.pid != pid, child.address) == (True, address)
        assert (child.restarts, child.exits) == (1, [-signal.SIGKILL])
        assert child.pid in pids(tmp_path)
        await seen(stack.url)
    assert f"{name} was ended by SIGKILL: starting it again in 0.05 s" in lines


async def test_the_pause_grows_with_every_early_death(tmp_path: Path) -> None:
    """Told with each restart."""
    lines: list[str] = []
    async with Stack.running(config(tmp_path), lines.append) as stack:
        for _ in range(3):
            await stack.children["job-server-1"].kill()
            await stack.children["job-server-1"].ready(10)
    told_pauses = [line.rpartition(" in ")[2] for line in lines if "starting it again" in line]
    assert told_pauses == ["0.05 s", "0.1 s", "0.2 s"]


async def test_a_child_that_hangs_is_killed_after_its_grace(tmp_path: Path) -> None:
    """The others get their own time, and nothing is left."""
    lines: list[str] = []
    hanging = config(
        tmp_path,
        commands={"api-server": standin(), "job-server": standin("--ignore-sigterm")},
        environment={"HASTY_SHUTDOWN_GRACE_S": "-1.8"},  # 0.2 s with the two that the stack adds
    )
    async with Stack.running(hanging, lines.append) as stack:
        processes = pids(tmp_path)
        job_server = stack.children["job-server-1"]
    assert not any(lives(pid) for pid in processes)
    assert job_server.exits == [-signal.SIGKILL]
    assert "job-server-1 did not end within 0.2 s: killed" in lines


async def test_frozen_children_end_like_the_others(tmp_path: Path) -> None:
    """A SIGTERM would wait for ever in a stopped process."""
    async with Stack.running(config(tmp_path)) as stack:
        for child in stack.children.values():
            child.pause()
        children = list(stack.children.values())
    assert [child.exits for child in children] == [[0], [0], [0]]


async def test_a_child_ends_down_and_starts_again_when_told(tmp_path: Path) -> None:
    """`terminate` and `stay_down` are no deaths to recover from."""
    async with Stack.running(config(tmp_path)) as stack:
        child = stack.children["job-server-1"]
        assert await child.terminate() == 0
        assert (child.pid, child.exits) == (None, [0])
        await child.start()
        await child.ready(10)
        await child.stay_down()
        assert (child.pid, child.exits) == (None, [0, -signal.SIGKILL])
        await child.start()
        await child.ready(10)


async def test_nginx_dies_with_all_its_workers(tmp_path: Path) -> None:
    """A worker that survived its master would go on answering on the port."""
    async with Stack.running(config(tmp_path)) as stack:
        workers = works_in(tmp_path)
        assert len(workers) > 1
        await stack.children["nginx"].kill()
        assert not any(lives(pid) for pid in workers)


async def test_scaling_up_and_down_is_seen_by_callers(tmp_path: Path) -> None:
    """Requests reach the new api-servers and no more those that left; ports of leavers are given back."""

    async def answering(url: str) -> set[object]:
        async with httpx.AsyncClient(base_url=url) as client:
            return {(await client.get("/x")).json()["pid"] for _ in range(24)}

    async with Stack.running(config(tmp_path)) as stack:
        await stack.scale("api-server", 3)
        three = {child.pid for child in stack.children.values() if child.role == "api-server"}
        assert len(three) == 3
        assert await answering(stack.url) == three
        await stack.scale("api-server", 1)
        assert await answering(stack.url) == {stack.children["api-server-1"].pid}
        await stack.scale("job-server", 3)
        assert [name for name in stack.children if name.startswith("job")] == [
            "job-server-1",
            "job-server-2",
            "job-server-3",
        ]
        await stack.scale("job-server", 0)
        assert set(stack.children) == {"api-server-1", "nginx"}
        assert {child["name"] for child in told(tmp_path)["children"]} == {"api-server-1", "nginx"}


async def test_services_get_the_settings_of_the_stack_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HASTY_* of whoever runs the tests stays out; one child may get its own."""
    monkeypatch.setenv("HASTY_COOLDOWN_S", "7")
    given = config(
        tmp_path,
        job_servers=2,
        environment={"HASTY_ACK_WAIT_S": "3"},
        environment_of={"job-server": {"HASTY_JOB_CONCURRENCY": "5"}, "job-server-2": {"HASTY_ACK_WAIT_S": "4"}},
    )
    async with Stack.running(given) as stack:
        settings = {name: settings_of(child.log) for name, child in stack.children.items() if name != "nginx"}
    assert all("HASTY_COOLDOWN_S" not in held for held in settings.values())
    assert settings["api-server-1"]["HASTY_API_MONGO_URL"] == "mongodb://nowhere:2"
    assert "HASTY_JOB_MONGO_URL" not in settings["api-server-1"]
    assert settings["job-server-1"]["HASTY_JOB_MONGO_URL"] == "mongodb://nowhere:3"
    assert [settings[f"job-server-{n}"]["HASTY_ACK_WAIT_S"] for n in (1, 2)] == ["3", "4"]
    assert [settings[f"job-server-{n}"]["HASTY_JOB_CONCURRENCY"] for n in (1, 2)] == ["5", "5"]


async def test_own_broker_and_databases_are_real_and_can_be_wiped(tmp_path: Path) -> None:
    """Probed in their protocols, reached through `wire`, back after a kill and after the loss of their data."""
    links: list[Link] = []

    def wire(link: Link) -> str:
        links.append(link)
        return f"wired-to-{link.address}"

    whole = config(tmp_path, nats_url=None, api_mongo_url=None, job_mongo_url=None, wire=wire)
    async with Stack.running(whole) as stack:
        children = stack.children
        assert list(children)[:3] == ["nats", "api-mongo", "job-mongo"]
        settings = settings_of(children["job-server-1"].log)
        # With the login that the stack has made, and gives to nobody else.
        nats, mongo = settings["HASTY_NATS_URL"], settings["HASTY_JOB_MONGO_URL"]
        assert re.fullmatch(rf"nats://[\w-]+:[\w-]{{20,}}@wired-to-{re.escape(children['nats'].address)}", nats)
        assert f"wired-to-{children['job-mongo'].address}/hasty_job" in mongo
        assert Link("job-server-1", "nats", children["nats"].address) in links
        await asyncio.gather(*(children[name].stay_down() for name in ("nats", "api-mongo")))
        for name in ("nats", "api-mongo"):
            assert await children[name].answers() is not None
            children[name].wipe()
            assert not (tmp_path / "data" / name).exists()
            await children[name].start()
        await asyncio.gather(*(children[name].ready(20) for name in ("nats", "api-mongo")))
        with pytest.raises(RuntimeError, match="runs on its data"):
            children["nats"].wipe()


async def test_a_port_lost_at_the_start_is_replaced_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between choosing a port and listening on it somebody else may come; nobody needs to hear of it."""
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    lost = taken.sockets[0].getsockname()[1]
    renew = Port.renew

    def renew_badly_once(port: Port) -> None:
        renew(port)
        if not port._fixed and not hasattr(Port, "was_lost"):  # noqa: SLF001 - the race cannot be had otherwise
            monkeypatch.setattr(Port, "was_lost", True, raising=False)
            port.number = lost

    monkeypatch.setattr(Port, "renew", renew_badly_once)
    lines: list[str] = []
    async with taken, Stack.running(config(tmp_path), lines.append) as stack:
        assert stack.url != f"http://127.0.0.1:{lost}"
        await seen(stack.url)
    assert not any("again" in line for line in lines)


async def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    """One line, and no child was made for nothing."""
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    number = taken.sockets[0].getsockname()[1]
    async with taken:
        with pytest.raises(PortInUseError, match=rf"^port {number} is in use"):
            async with Stack.running(config(tmp_path, http_port=number)):
                pass
    assert not list((tmp_path / "logs").glob("*"))


async def test_a_missing_program_is_told_in_one_line(tmp_path: Path) -> None:
    """And what had been started is gone."""
    lines: list[str] = []
    commands = {"api-server": standin(), "job-server": ["no-such-program"]}
    with pytest.raises(MissingProgramError, match=r"^the program no-such-program is not installed"):
        async with Stack.running(config(tmp_path, commands=commands), lines.append):
            pass
    assert not works_in(tmp_path)
    assert not (tmp_path / "stack.json").exists()


async def test_bad_settings_end_the_start_with_the_services_own_words(tmp_path: Path) -> None:
    """Exit code 2 will not be better the second time."""
    commands = {"api-server": standin("--exit", "2"), "job-server": standin()}
    with pytest.raises(
        WouldNotStartError, match=r"^api-server-1 ended with exit code 2 while starting: HASTY_COOLDOWN_S"
    ):
        async with Stack.running(config(tmp_path, commands=commands)):
            pass
    assert (tmp_path / "logs" / "api-server-1.log").read_text().count("HASTY_COOLDOWN_S") == 1


async def test_a_child_that_stumbles_at_the_start_is_tried_again(tmp_path: Path) -> None:
    """Bad luck once is no reason to give up."""
    stumbling = standin("--exit", "1", "--once", str(tmp_path / "stumbled"))
    async with Stack.running(config(tmp_path, commands={"api-server": stumbling, "job-server": standin()})) as stack:
        assert stack.children["api-server-1"].exits == [1]


async def test_a_child_that_never_gets_ready_is_told_with_its_reason(tmp_path: Path) -> None:
    """The answer of /readyz says what it waits for."""
    commands = {"api-server": standin("--unready"), "job-server": standin()}
    settings = config(tmp_path, commands=commands, start_timeout_s=3)
    with pytest.raises(StackError, match=r"^api-server-1 was not ready within 3 s: it answers /readyz with 503: \{"):
        async with Stack.running(settings):
            pass


async def test_what_a_killed_stack_left_running_is_ended_by_the_next(tmp_path: Path) -> None:
    """Only what is still the process that was named: a pid may have gone to somebody else."""
    ours = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    theirs = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    children = [
        {"name": "nats", "pid": ours.pid, "address": "", "started": started(ours.pid)},
        {"name": "job-mongo", "pid": theirs.pid, "address": "", "started": (started(theirs.pid) or 0) - 60},
    ]
    (tmp_path / "stack.json").write_text(json.dumps({"url": "", "children": children}))
    try:
        async with Stack.running(config(tmp_path)), asyncio.timeout(30):
            assert await ours.wait() == -signal.SIGKILL
            assert theirs.returncode is None
    finally:
        for process in (ours, theirs):
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_next_stack_ends_nginx_workers_that_were_left_behind(tmp_path: Path) -> None:
    """They still listen on the port; their master, which stack.json names, is no more."""
    work = tmp_path / "nginx"
    work.mkdir()
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", "sleep 600 > /dev/null & echo $!"),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=work,
    )
    assert shell.stdout is not None
    worker = int(await shell.stdout.readline())
    await shell.wait()
    assert lives(worker)
    children = [{"name": "nginx", "pid": shell.pid, "address": "", "started": time.time()}]
    (tmp_path / "stack.json").write_text(json.dumps({"url": "", "children": children}))
    async with Stack.running(config(tmp_path)):
        await eventually(lambda: not lives(worker))


async def test_logs_are_bounded_while_the_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that runs for weeks does not fill the disk."""
    monkeypatch.setattr("hasty.server.local_stack.stack.TEND_EVERY_S", 0.01)
    async with Stack.running(config(tmp_path, log_limit_bytes=150)) as stack:
        log = stack.children["job-server-1"].log
        await eventually(lambda: log.stat().st_size < 150 and "serving" in log.with_suffix(".log.1").read_text())


async def test_stack_json_is_written_once_there_is_space_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack runs meanwhile, and says once that the file is out of date."""
    monkeypatch.setattr("hasty.server.local_stack.stack.TEND_EVERY_S", 0.01)
    full = tmp_path / "stack.json.new"
    full.symlink_to("/dev/full")
    lines: list[str] = []
    async with Stack.running(config(tmp_path), lines.append):
        assert not (tmp_path / "stack.json").exists()
        full.unlink()
        await eventually(lambda: told(tmp_path)["ready"])
    assert len([line for line in lines if line.startswith("stack.json cannot be written (No space left")]) == 1


def test_the_launcher_refuses_to_outlive_a_parent_that_is_gone() -> None:
    """The parent died before the kernel was asked to tell of its death."""
    command = [sys.executable, "-I", "-S", str(LAUNCH), "1", "9", shutil.which("true") or ""]
    answer = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - all ours
    assert answer.returncode == 1
    assert b"the supervisor ended" in answer.stderr
