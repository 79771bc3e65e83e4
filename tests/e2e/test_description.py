"""The description of `/v1` is true: a program that knows nothing else asks a running system, and judges its answers."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hasty.jobs import JOB_ID
from hasty.server.local_stack import Stack
from tests.e2e.stacks import running
from tests.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack, pytest.mark.starts_first]

WORK = Path(__file__).with_name("work.py")
GREETING = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}},
    "required": ["name"],
    "additionalProperties": False,
}

# A request as described may be refused: of the same idempotency key with another body, with 422; of a cursor of another
# list, with 400. A bad member of a batch is answered among the results. nginx answers TRACE by itself, and does not
# know which methods a path has. Fuzzing is left to `tests/unit/http` and `tests/fuzz`, which are quicker.
CONFIG = """
generation.deterministic = true
continue-on-failure = true
request-timeout = 30.0
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]
phases.fuzzing.enabled = false
phases.stateful.generation.max-examples = 150
phases.coverage.unexpected-methods = ["get", "post", "put", "patch", "delete", "options"]

[[operations]]
include-operation-id = "list_jobs"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400]

[[operations]]
include-operation-id = "create_batch"
checks.negative_data_rejection.expected-statuses = [200, 400, 405, 413, 422]
"""

FOLLOWED = {
    ("POST", "/v1/jobs", 201),
    ("GET", "/v1/jobs/ID", 200),
    ("POST", "/v1/jobs/ID/cancel", 200),
    ("POST", "/v1/jobs/ID/retry", 201),
    ("GET", "/v1/jobs/ID/timeline", 200),
    ("GET", "/v1/jobs", 200),
    ("POST", "/v1/batches", 200),
    ("GET", "/v1/batches/ID", 200),
}
"""What the links of the description lead to at least, with the ids of what was made before."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two api-servers, and handlers."""
    folder = tmp_path_factory.mktemp("description")
    async with running(folder, api_servers=2, environment={"HASTY_WORK": str(WORK)}) as stack:
        yield stack


async def described(stack: Stack) -> Any:
    """The description, once `greet` can be posted; narrowed so that what is posted is known and ends at once."""
    async with httpx.AsyncClient(base_url=stack.url) as http:

        async def announced() -> bool:
            kinds = (await http.get("/v1/kinds")).json()["data"]
            return any(kind["name"] == "greet" and kind["workers"] for kind in kinds)

        await eventually(announced, within_s=30)
        description = (await http.get("/v1/openapi.json")).json()
    body = description["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for schema in (body["schema"], description["components"]["schemas"]["NewJob"]):
        schema["properties"] |= {"kind": {"const": "greet"}, "input": GREETING}
        del schema["properties"]["delay_s"]
    return description


def asked(report: Path) -> set[tuple[str, str, int]]:
    """What was asked: method, path and status."""
    entries = json.loads(report.read_text())["log"]["entries"]
    return {
        (
            entry["request"]["method"],
            JOB_ID.sub("ID", httpx.URL(entry["request"]["url"]).path),
            entry["response"]["status"],
        )
        for entry in entries
    }


async def test_description_is_true(stack: Stack, tmp_path: Path) -> None:
    """Statuses, headers and bodies of every request, and of those that its links lead to."""
    config, description, report = tmp_path / "schemathesis.toml", tmp_path / "v1.json", tmp_path / "report.har"
    config.write_text(CONFIG)
    description.write_text(json.dumps(await described(stack)))
    command = ["-m", "schemathesis.cli", "--config-file", str(config), "run", str(description), "--url", stack.url]
    options = ["--no-color", "--report", "har", "--report-har-path", str(report)]
    program = await asyncio.create_subprocess_exec(
        sys.executable, *command, *options, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    text = output.decode()
    assert program.returncode == 0, text
    # What it could not test is told as a warning.
    assert not re.search("nresolvable|never reached", text), text
    found = asked(report)
    assert found >= FOLLOWED, sorted(found)
