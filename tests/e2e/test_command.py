"""The command on a running system: data on standard output, everything else beside it, and its exit codes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hasty.client import AsyncHasty, NewJob
from tests.e2e.command import Command, environment
from tests.e2e.stacks import running
from tests.eventually import eventually
from tests.stack.stacks import line_with

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.own_stack]

WORK = Path(__file__).with_name("work.py")
NOBODY = "http://127.0.0.1:9"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncHasty]:
    """A client of a system with handlers."""
    async with (
        running(tmp_path_factory.mktemp("command"), environment={"HASTY_WORK": str(WORK)}) as stack,
        AsyncHasty(stack.url) as client,
    ):

        async def announced() -> bool:
            return {"greet", "thumb"} <= {kind.name for kind in await client.kinds() if kind.workers}

        await eventually(announced, within_s=30)
        yield client


@pytest.fixture
def hasty(client: AsyncHasty, tmp_path: Path) -> Command:
    """The command, for that system."""
    return Command(environment(client.url, tmp_path))


async def test_submit_reads_values_by_the_schema(hasty: Command, client: AsyncHasty) -> None:
    """The id is all that is printed; with --wait it is the output, with --json the job."""
    made = await hasty.run("submit", "greet", "name=12", "--label", "a", "--label", "b", "--attempts", "3")
    assert (made.code, made.err) == (0, "")
    job = await client.wait(made.out.strip())
    assert (job.input, job.labels, job.attempts, job.output) == ({"name": "12"}, ("a", "b"), 3, "hello 12")
    waited = await hasty.run("submit", "train", "rows=3", "--wait")
    assert (waited.code, waited.out, waited.err) == (0, "1.5\n", "")
    whole = await hasty.run("submit", "greet", "name=Bob", "--input", "-", "--wait", "--json", stdin='{"name": "Ada"}')
    assert json.loads(whole.out)["output"] == "hello Bob"


async def test_submit_is_refused_with_what_to_do(hasty: Command, tmp_path: Path) -> None:
    """On standard error, with exit code 2; a key that is taken has a code of its own."""
    for arguments, said in [
        (("gret", "name=x"), "did you mean greet"),
        (("train", "rows=x"), "rows is 'x': it must be integer"),
        (("greet", "nam=x"), "nam"),
        (("greet", "name"), "has no name"),
        (("greet", "--input", str(tmp_path / "none")), "cannot be read"),
        (("greet", "name=x", "--idempotency-key", "a b"), "visible"),
    ]:
        refused = await hasty.run("submit", *arguments)
        assert (refused.code, refused.out, said in refused.err) == (2, "", True), refused
    taken = [await hasty.run("submit", "resize", "url=one", "width=1") for _ in range(2)]
    assert [each.code for each in taken] == [0, 8]


async def test_exit_code_tells_the_outcome(hasty: Command, client: AsyncHasty) -> None:
    """Of a wait: failed with its error, cancelled, and not yet."""
    failed = await hasty.run("submit", "flaky", "fails=1", "--attempts", "1", "--wait")
    assert (failed.code, failed.out, "exception: attempt 1" in failed.err) == (1, "", True)
    late = await client.with_options(delay_s=3600).submit("greet", name="x")
    over = await hasty.run("wait", late.id, "--timeout", "0.1")
    assert (over.code, over.out, f"hasty wait {late.id}" in over.err) == (6, "", True)
    cancelled = await hasty.run("cancel", late.id)
    assert (cancelled.code, cancelled.out) == (0, f"{late.id}\n")
    ended = await hasty.run("wait", late.id)
    assert (ended.code, ended.err) == (5, f"hasty: job {late.id} cancelled\n")


async def test_job_is_shown_by_the_end_of_its_id(hasty: Command, client: AsyncHasty) -> None:
    """Or its beginning, where it is unique; else it is said how far was looked."""
    job = await client.wait(await client.with_options(labels=["shown"]).submit("greet", name="Ada"))
    shown = await hasty.run("get", job.id[-8:].upper())
    fields = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert (fields["job"], fields["status"], fields["output"]) == (job.id, "finished", '"hello Ada"')
    same = await hasty.run("get", job.id[:18], "--json")
    assert json.loads(same.out)["id"] == job.id
    another = await client.submit("greet", name="Bob")
    both = await hasty.run("get", another.id[:4])
    assert (both.code, another.id in both.err) == (2, True)
    for unknown in ("00000000", "00000000-0000-7000-8000-000000000000", "nobody"):
        missing = await hasty.run("get", unknown)
        assert (missing.code, missing.out) == (3, ""), missing


async def test_list_is_for_pipes_and_for_programs(hasty: Command, client: AsyncHasty) -> None:
    """Fields between tabs, or a JSON object on each line; filtered by the server."""
    made = await client.with_options(labels=["listed"]).submit_many(
        [NewJob("greet", {"name": str(n)}) for n in range(5)]
    )
    ids = {job.id for job in made if not isinstance(job, Exception)}
    lines = (await hasty.run("list", "--label", "listed", "--since", "1h", "--limit", "4")).out.splitlines()
    assert (len(lines), {line.split("\t")[0] for line in lines} <= ids) == (4, True)
    objects = [json.loads(line) for line in (await hasty.run("list", "--label", "listed", "--json")).out.splitlines()]
    assert {each["id"] for each in objects} == ids
    # Times are written in one way.
    assert [line.split("\t")[4] for line in lines] == [each["created_at"] for each in objects[:4]]
    assert (await hasty.run("list", "--label", "listed", "--since", "2020-01-01", "--kind", "train")).out == ""
    for bad in (("--since", "soon"), ("--status", "done")):
        refused = await hasty.run("list", *bad)
        assert (refused.code, bad[0][2:] in refused.err) == (2, True)


async def test_jobs_are_repeated_and_explained(hasty: Command, client: AsyncHasty) -> None:
    """One that cannot be repeated stops no other."""
    job = await client.wait(await client.submit("greet", name="Ada"))
    late = await client.with_options(delay_s=3600).submit("greet", name="x")
    again = await hasty.run("retry", late.id, job.id, "--json")
    assert (again.code, json.loads(again.out)["retry_of"], late.id in again.err) == (1, job.id, True)
    why = await hasty.run("why", late.id)
    assert (why.code, "as requested" in why.out, "created" in why.out) == (0, True, True)
    told = json.loads((await hasty.run("why", job.id, "--json")).out)
    assert [event["event"] for event in told["timeline"]] == ["created", "started", "finished"]
    await client.cancel(late)


async def test_watch_tells_each_change(hasty: Command, client: AsyncHasty) -> None:
    """A line for each, and the exit code of the outcome."""
    job = await client.submit("long_async", seconds=120)
    lines, objects = await hasty.start("watch", job.id), await hasty.start("watch", job.id, "--json")
    await line_with(lines, "50% on it")
    await line_with(objects, '"note": "on it"')
    await client.cancel(job)
    ended, (last, err) = await objects.communicate(), await lines.communicate()
    assert (lines.returncode, objects.returncode) == (5, 5)
    assert (job.id in last.decode(), "cancelled" in last.decode().splitlines()[-1]) == (True, True)
    assert err.decode() == f"hasty: job {job.id} cancelled\n"
    assert json.loads(ended[0].splitlines()[-1])["status"] == "cancelled"


async def test_kinds_and_workers_are_listed(hasty: Command) -> None:
    """With what a kind takes, and who serves it; the built-in one is served by every job-server."""
    rows = [line.split("\t") for line in (await hasty.run("kinds")).out.splitlines()]
    assert [row[:3] for row in rows if row[0] in {"resize", "sleep"}] == [
        ["resize", "url= width=", "1"],
        ["sleep", "object_id=", "1"],
    ]
    objects = (await hasty.run("kinds", "--json")).out.splitlines()
    assert {json.loads(line)["name"] for line in objects} == {row[0] for row in rows}
    [worker] = [json.loads(line) for line in (await hasty.run("workers", "--json")).out.splitlines()]
    assert (worker["kinds"]["sleep"], worker["free_slots"]["sleep"]) == ("", 1_000)
    assert (await hasty.run("workers")).out.startswith(f"{worker['worker']}\tready\t")


async def test_server_is_named_in_four_ways(hasty: Command, client: AsyncHasty, tmp_path: Path) -> None:
    """The option before the profile's option, the environment, and the profile that is set."""
    config = tmp_path / ".config" / "hasty" / "config.toml"
    missing = await hasty.run("workers", "--profile", "here")
    assert (missing.code, str(config) in missing.err) == (2, True)
    config.parent.mkdir(parents=True)
    config.write_text(
        f'profile = "nobody"\n[profiles.here]\nurl = "{client.url}"\n[profiles.nobody]\nurl = "{NOBODY}"\n'
    )
    assert (await hasty.run("workers", "--profile", "here", HASTY_URL=NOBODY)).code == 0
    assert (await hasty.run("workers", "--profile", "nobody", "--url", client.url)).code == 0
    assert (await hasty.run("workers")).code == 0
    away = await hasty.run("workers", HASTY_URL="")
    assert (away.code, away.out, f"{NOBODY} cannot be reached" in away.err) == (7, "", True)
    assert (await hasty.run("workers", "--url", "nowhere")).code == 2


async def test_terminal_shows_progress_and_ctrl_c_leaves_the_job(hasty: Command, client: AsyncHasty) -> None:
    """The handler's own progress, the time it may take, and then how to come back to it."""
    async with hasty.on_terminal("submit", "long_async", "seconds=60", "--wait", "--label", "ctrl-c") as terminal:
        await eventually(lambda: "50% on it" in terminal.shown and "of at most 60 min" in terminal.shown, within_s=30)
        terminal.press_ctrl_c()
    assert terminal.process.returncode == 130
    [job] = [job async for job in client.jobs(label="ctrl-c", status="processing")]
    assert f"hasty wait {job.id}" in terminal.shown
    await client.cancel(job)


@pytest.mark.parametrize("command", ["wait", "watch"])
async def test_ctrl_c_says_how_to_come_back(hasty: Command, client: AsyncHasty, command: str) -> None:
    """To a job that another command submitted: it goes on, and the job's id is there to be copied."""
    job = await client.submit("long_async", seconds=60)
    async with hasty.on_terminal(command, job.id[-8:]) as terminal:
        await eventually(lambda: "50% on it" in terminal.shown, within_s=30)
        terminal.press_ctrl_c()
    assert terminal.process.returncode == 130
    assert f"hasty wait {job.id}" in terminal.shown
    assert f"hasty cancel {job.id}" in terminal.shown
    assert (await client.get(job)).status == "processing"
    await client.cancel(job)


async def test_terminal_has_colors_unless_told_otherwise(hasty: Command, client: AsyncHasty) -> None:
    """And a table with a heading."""
    await client.wait(await client.submit("greet", name="Ada"))
    async with hasty.on_terminal("list", "--status", "finished", "--limit", "1") as colored:
        pass
    async with hasty.on_terminal("list", "--status", "finished", "--limit", "1", NO_COLOR="1") as plain:
        pass
    assert ("\x1b[32mfinished" in colored.shown, "\x1b" in plain.shown) == (True, False)
    assert plain.shown.split()[:3] == ["job", "kind", "status"]


async def test_shell_completes_kinds_and_jobs(hasty: Command, client: AsyncHasty) -> None:
    """And nothing where nobody answers."""
    job = await client.submit("greet", name="Ada")
    shell = {"_HASTY_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    kinds = await hasty.run(COMP_WORDS="hasty submit gr", **shell)
    assert kinds.out == "plain,greet\n"
    jobs = await hasty.run(COMP_WORDS="hasty get ", **shell)
    assert f"plain,{job.id}\n" in jobs.out
    nobody = await hasty.run(COMP_WORDS="hasty get ", **{**shell, "HASTY_URL": NOBODY})
    assert (nobody.out.strip(), nobody.err) == ("", "")


async def test_doctor_says_what_to_do(hasty: Command, client: AsyncHasty) -> None:
    """Of a system that is well, and of one that is not there."""
    well = await hasty.run("doctor")
    assert (well.code, f"{client.url} answers (HASTY_URL)" in well.out, "wrong" in well.out) == (0, True, False), well
    away = await hasty.run("doctor", "--url", NOBODY, "--json")
    findings = [json.loads(line) for line in away.out.splitlines()]
    assert (away.code, "hasty up" in findings[-1]["todo"]) == (7, True)


async def test_top_and_open_are_for_terminals_and_pipes(hasty: Command, client: AsyncHasty) -> None:
    """Once in a pipe, and until Ctrl-C on a terminal, which is then as it was."""
    job = await client.submit("long_async", seconds=60)
    once = await hasty.run("top")
    assert (once.code, f"Hasty on {client.url}" in once.out) == (0, True)
    assert json.loads((await hasty.run("top", "--json")).out)["verdict"]
    async with hasty.on_terminal("top") as terminal:
        await eventually(lambda: job.id[-8:] in terminal.shown and "50% on it" in terminal.shown, within_s=30)
        terminal.press_ctrl_c()
    assert (terminal.process.returncode, "\x1b[?1049l" in terminal.shown) == (0, True)
    page = await hasty.run("open", job.id)
    assert (page.code, page.out) == (0, f"{client.url}/ui/#/jobs/{job.id}\n")
    await client.cancel(job)
