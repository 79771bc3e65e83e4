"""An application with `/v1` on fakes, and what its callers send and expect."""

from collections.abc import Iterator
from typing import Any

import httpx

from api_server.admission import Admission
from api_server.http import problems
from api_server.http.app import make_app
from api_server.http.contract import Contract
from api_server.queries import Queries
from hasty.ids import new_job_id
from hasty.jobs import INPUT_MAX
from hasty.server.runtime.probes import Probes
from tests.unit.api_server.v1_world import FETCH, GREET, V1World, World
from tests.unit.api_server.world import COOLDOWN

PROBLEM = "application/problem+json"


class Api:
    """A world, one api-server in it, and its application."""

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self.world = World()

        def numbered(_key: str | None) -> str:
            return f"{next(numbers or iter(())):08x}-0000-7000-8000-000000000000"

        self.parts: V1World = self.world.v1(new_job_id if numbers is None else numbered)
        admission = Admission(
            self.world.store, self.parts.server.outbox, now=lambda: self.world.time, cooldown=COOLDOWN
        )
        self.contract = Contract(admission, Queries(self.world.store))
        self.app = make_app(self.contract, Probes({}), self.parts.v1)

    async def know_kinds(self) -> None:
        """Have kinds announced."""
        await self.world.announced(self.parts, GREET, FETCH)


def caller(app: object) -> httpx.AsyncClient:
    """A caller of an application, without a network between."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # any ASGI application
    return httpx.AsyncClient(transport=transport, base_url="http://hasty")


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Status and name of what must be a problem in its full shape."""
    assert response.headers["content-type"] == PROBLEM, response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return response.status_code, body["type"].removeprefix(problems.TYPE)


async def post(http: httpx.AsyncClient, kind: str = "greet", more: Any = None, **given: object) -> httpx.Response:
    """Post a job of a kind."""
    return await http.post("/v1/jobs", json={"kind": kind, "input": given, **(more or {})})


async def description_of(api: Api) -> Any:
    """The description of `/v1`."""
    async with caller(api.app) as http:
        return (await http.get("/v1/openapi.json")).json()


NUL = b"\\u0000"
BODIES = {
    "nothing": (b"", "malformed"),
    "no object": (b"[]", "malformed"),
    "no kind": (b'{"input": {}}', "malformed"),
    "no name of a kind": (b'{"kind": "Greet!", "input": {}}', "malformed"),
    "no input": (b'{"kind": "greet"}', "malformed"),
    "unknown member": (b'{"kind": "greet", "input": {"name": "a"}, "delay": 1}', "malformed"),
    "5,000 levels": (b'{"kind": "greet", "input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "malformed"),
    "NaN": (b'{"kind": "greet", "input": {"name": NaN}}', "malformed"),
    "lone surrogate": (b'{"kind": "greet", "input": {"name": "\\ud800"}}', "malformed"),
    "no UTF-8": (b'{"kind": "greet", "input": {"name": "\xff"}}', "malformed"),
    "5,000 digits": (b'{"kind": "greet", "input": {"name": ' + b"1" * 5_000 + b"}}", "malformed"),
    "delay of 31 days": (b'{"kind": "greet", "input": {"name": "a"}, "delay_s": 2678400}', "malformed"),
    "no attempts": (b'{"kind": "greet", "input": {"name": "a"}, "attempts": 0}', "malformed"),
    "nine labels": (
        b'{"kind": "greet", "input": {"name": "a"}, "labels": ' + b'["a"' + b',"b"' * 8 + b"]}",
        "malformed",
    ),
    "400 digits": (b'{"kind": "greet", "input": {"name": ' + b"1" * 400 + b"}}", "bad-input"),
    "too large a number": (b'{"kind": "greet", "input": {"name": 1e999}}', "bad-input"),
    "NUL": (b'{"kind": "greet", "input": {"name": "' + NUL + b'"}}', "bad-input"),
    "NUL in a name": (b'{"kind": "greet", "input": {"name": "a", "' + NUL + b'": 1}}', "bad-input"),
    "wrong type": (b'{"kind": "greet", "input": {"name": 1}}', "bad-input"),
    "unknown kind": (b'{"kind": "gret", "input": {}}', "unknown-kind"),
    "long input": (b'{"kind": "greet", "input": {"name": "' + b"x" * INPUT_MAX + b'"}}', "too-large"),
    "long body": (b'{"kind": "greet", "input": {"name": "' + b"x" * 65_536 + b'"}}', "too-large"),
}
