"""The fast lane and FastAPI answer alike: the same requests are asked both ways."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from api_server.domain import Job, Run, TooSoon
from api_server.errors import Busy, StoreUnavailable, TooSoonError
from api_server.routes import BODY_MAX, Contract, FastLane, make_framework_app
from runtime.probes import Probes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api_server.service import Service

KNOWN = "11111111-1111-4111-8111-111111111111"
UNKNOWN = "22222222-2222-4222-8222-222222222222"


class Scripted:
    """A service that does what an object's id says."""

    async def submit(self, object_id: str) -> str:
        """Make a job, or fail as asked."""
        match object_id:
            case "too soon":
                raise TooSoonError(TooSoon(KNOWN, 12.3))
            case "away":
                raise StoreUnavailable("no")
            case "busy":
                raise Busy
            case "defect":
                raise KeyError(object_id)
        return KNOWN

    async def find(self, job_id: str) -> Job | None:
        """Know one job."""
        return Job(Run("x", 1, KNOWN, datetime(2026, 1, 2, tzinfo=UTC) + timedelta(0))) if job_id == KNOWN else None


BODIES = [
    b'{"object_id": "x"}',
    b'{"object_id": "too soon"}',
    b'{"object_id": "away"}',
    b'{"object_id": "busy"}',
    b"{}",
    b'{"object_id": null}',
    b'{"object_id": ""}',
    b'{"object_id": 5}',
    b'{"object_id": {"$ne": null}}',
    b'{"object_id": "\\ud800"}',
    b'{"object_id": "a\\u0000b"}',
    b'{"object_id": NaN}',
    b'{"object_id": "%b"}' % (b"x" * 257),
    b"[" * 100_000,
    b"\xff\xfe",
    b"",
    b"null",
    b'"x"',
    b"x" * (BODY_MAX + 1),
]
REQUESTS = [("POST", "/", body) for body in BODIES] + [
    ("GET", f"/{KNOWN}", b""),
    ("GET", f"/{UNKNOWN}", b""),
    ("GET", f"/{KNOWN.upper()}", b""),
    ("GET", "/aaaaaaaa/bbbb-cccc-dddd-eeeeeeeeeeee", b""),
    ("GET", "/x", b""),
    ("GET", "/%00%ff", b""),
    ("GET", "/a/b", b""),
    ("GET", "/", b""),
    ("PUT", f"/{KNOWN}", b""),
    ("DELETE", "/", b""),
]


def _apps() -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
    service: Service = Scripted()  # type: ignore[assignment]
    contract = Contract(service)
    framework = make_framework_app(contract, Probes({}))
    return tuple(  # type: ignore[return-value]
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        for app in (FastLane(contract, framework), framework)
    )


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=lambda part: repr(part)[:40])
async def test_both_ways_answer_alike(method: str, path: str, body: bytes) -> None:
    """Status, headers and body, to the byte, and always the contract's shape."""
    answers = []
    for client in _apps():
        async with client:
            answers.append(await client.request(method, path, content=body))
    lane, framework = answers
    assert lane.status_code == framework.status_code
    assert lane.content == framework.content
    assert sorted(lane.headers.items()) == sorted(framework.headers.items())
    assert list(lane.json()) == ["message"]
    assert lane.status_code < 500 or "retry-after" in lane.headers


@pytest.mark.parametrize("chunks", [1, 2, 7])
async def test_a_body_in_pieces_is_one_body(chunks: int) -> None:
    """However the network cuts it."""
    body = b'{"object_id": "x"}'
    size = -(-len(body) // chunks)

    async def pieces() -> AsyncIterator[bytes]:
        for start in itertools.count(0, size):
            if start >= len(body):
                return
            yield body[start : start + size]

    client, other = _apps()
    async with client, other:
        answer = await client.post("/", content=pieces())
    assert answer.status_code == 201


async def test_a_defect_is_a_plain_500_in_the_contracts_shape() -> None:
    """Nothing of the inside is shown."""
    client, other = _apps()
    async with client, other:
        answer = await client.post("/", json={"object_id": "defect"})
    assert (answer.status_code, answer.json()) == (
        500,
        {"message": "something went wrong here, please try again"},
    )
