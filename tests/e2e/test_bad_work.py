"""Bad input and bad output through the whole system: each is told in plain words, and no service suffers from it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from hasty.jobs import INPUT_MAX
from hasty.server.local_stack import Stack
from tests.e2e.stacks import running, services, tracebacks
from tests.e2e.v1 import V1
from tests.eventually import eventually
from tests.unit.http.v1_api import BODIES, problem_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.own_stack]

WORK = Path(__file__).parents[1] / "execution" / "handlers.py"
STATUS = {"malformed": 400, "bad-input": 422, "unknown-kind": 422, "too-large": 413}


def body(kind: object, given: object) -> bytes:
    """A job, as it is posted."""
    return json.dumps({"kind": kind, "input": given}).encode()


MORE = {
    "33 KiB": (body("greet", {"name": "x" * 33 * 1024}), "too-large"),
    "33 KiB for a kind that takes anything": (body("echo", {"x": "x" * 33 * 1024}), "too-large"),
    "5,000 objects": (b'{"kind": "echo", "input": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}", "malformed"),
    "400 digits for a number": (b'{"kind": "train", "input": {"rows": ' + b"1" * 400 + b"}}", "bad-input"),
    "400 digits, negative": (b'{"kind": "train", "input": {"rows": -' + b"1" * 400 + b"}}", "bad-input"),
    "minus infinity": (b'{"kind": "sleep_async", "input": {"seconds": -Infinity}}', "malformed"),
    "NUL in a key": (body("echo", {"\0": 1}), "bad-input"),
    "NUL in a key below": (body("echo", {"a": [{"b\0": 1}]}), "bad-input"),
    "$ in a key": (body("greet", {"name": "a", "$where": "1"}), "bad-input"),
    "operator for a text": (body("greet", {"name": {"$gt": ""}}), "bad-input"),
    "text for a number": (body("train", {"rows": "many"}), "bad-input"),
    "list for an input": (body("greet", ["Ada"]), "bad-input"),
    "null for an input": (body("greet", None), "bad-input"),
    "missing parameter": (body("resize", {"url": "u"}), "bad-input"),
    "surplus parameter": (body("greet", {"name": "a", "nam": "b"}), "bad-input"),
    "kind with a slash": (body("greet/../train", {}), "malformed"),
    "kind with spaces": (body("greet me", {}), "malformed"),
    "kind of the broker's": (body("work.>", {}), "malformed"),
    "kind that is no text": (body(["greet"], {}), "malformed"),
    "kind that nobody serves": (body("nobody", {"a": 1}), "unknown-kind"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A system with handlers that do what they should not; when it ends, no service may have logged a traceback."""
    async with running(tmp_path_factory.mktemp("bad"), environment={"HASTY_WORK": str(WORK)}) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(stack: Stack) -> AsyncIterator[V1]:
    """A caller of a system that knows its kinds."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=40) as http:

        async def served() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return {"greet", "returns"} <= {kind["name"] for kind in kinds if kind["workers"]}

        await eventually(served, within_s=60)
        yield V1(http)


async def test_bad_input_is_a_clear_problem(hasty: V1, stack: Stack) -> None:
    """Posted by itself and, where it is JSON at all, in a batch; no job is made of it, and nothing reaches a log."""
    before = (await hasty.http.get("/v1/jobs")).json()["data"]
    for name, (sent, problem) in {**BODIES, **MORE}.items():
        answer = await hasty.http.post("/v1/jobs", content=sent, headers={"Content-Type": "application/json"})
        assert problem_of(answer) == (STATUS[problem], problem), name
        assert answer.headers["x-request-id"], name
        batch = b'{"jobs": [' + sent + b"]}"
        if len(sent) > INPUT_MAX or problem == "malformed":
            continue
        members = (await hasty.http.post("/v1/batches", content=batch)).json()["results"]
        assert [member["problem"]["type"].rpartition(":")[2] for member in members] == [problem], name

    assert (await hasty.http.get("/v1/jobs")).json()["data"] == before
    assert tracebacks(stack) == []


async def test_unusual_input_comes_back_as_it_was(hasty: V1) -> None:
    """What is valid JSON and within the limits is nobody's concern but the handler's."""
    given = {"$where": {"$ne": 1}, "a.b": [[]], "": "", "ü\u2028": 2**53 + 1, "deep": json.loads("[" * 50 + "]" * 50)}

    job = await hasty.submit("echo", wait=20, **given)

    assert (job["status"], job["input"], job["output"]) == ("finished", given, given)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a set", "set"),
        ("too much", f"at most {INPUT_MAX} are kept"),
        ("nan", "out of range float"),
        ("an object", "object"),
        ("a surrogate", "surrogate"),
    ],
)
async def test_bad_output_fails_the_job_with_its_reason(hasty: V1, stack: Stack, what: str, said: str) -> None:
    """Nothing of it is kept, and no service logs a traceback."""
    job = await hasty.submit("returns", wait=20, what=what)

    assert (job["status"], job["output"], job["error"]["reason"]) == ("failed", None, "bad_output")
    assert said in job["error"]["message"].lower()
    assert len(job["error"]["message"]) < 500
    assert tracebacks(stack) == []


async def test_input_that_only_the_handlers_types_refuse_fails(hasty: V1, stack: Stack) -> None:
    """The schema cannot say that a text is a date; it is not handed back for ever."""
    job = await hasty.submit("typed", wait=20, when="yesterday")

    assert (job["status"], job["error"]["reason"], job["error"]["type"]) == ("failed", "exception", "InputRefused")
    assert job["error"]["message"].startswith("/when: ")
    assert tracebacks(stack) == []


async def test_everything_works_after_all_this(hasty: V1, stack: Stack) -> None:
    """No process has ended, and the next job is done as ever."""
    assert (await hasty.submit("greet", wait=20, name="Ada"))["output"] == "hello Ada"

    assert {name: child.exits for name, child in stack.children.items() if child.exits} == {}
    for child in (*services(stack, "api-server"), *services(stack, "job-server")):
        assert "handlers_not_loaded" not in child.log.read_text()
    assert tracebacks(stack) == []
