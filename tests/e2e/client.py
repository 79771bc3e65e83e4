"""A caller of Hasty: HTTP through nginx and nothing else."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.eventually import eventually

# Long enough for the default sleep of 45 s and the timeout of 46 s; a short job makes it no slower.
ENDS_WITHIN_S = 75.0

TOO_SOON = b'{"message":"you need to wait 5 minutes before rerunning the same job"}'


def new_object_id() -> str:
    """An object nobody has posted before, so that tests can share a system."""
    return f"object-{uuid.uuid4()}"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer read from a raw socket."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Hasty:
    """What a caller can do."""

    url: str
    http: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator["Hasty"]:
        """A caller with keep-alive connections, as most callers have."""
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=20, limits=limits) as http:
            yield cls(url, http)

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """POST these very bytes."""
        return await self.http.post("/", content=body, headers={"Content-Type": "application/json"} | (headers or {}))

    async def ask(self, object_id: str) -> httpx.Response:
        """POST an object, whatever comes of it."""
        return await self.post(json.dumps({"object_id": object_id}).encode())

    async def create(self, object_id: str | None = None) -> str:
        """POST an object that must be accepted; its job's id."""
        response = await self.ask(object_id or new_object_id())
        assert response.status_code == 201, response.text
        job_id = response.json()["message"]["job_id"]
        assert isinstance(job_id, str)
        return job_id

    async def create_many(self, count: int) -> list[str]:
        """POST new objects all at once; their jobs' ids."""
        return list(await asyncio.gather(*(self.create() for _ in range(count))))

    async def get(self, job_id: str) -> httpx.Response:
        """GET a job, whatever comes of it."""
        return await self.http.get(f"/{job_id}")

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job that must exist."""
        response = await self.get(job_id)
        assert response.status_code == 200, response.text
        message = response.json()["message"]
        assert isinstance(message, dict)
        return message

    async def ended(self, job_ids: Iterable[str], within_s: float = ENDS_WITHIN_S) -> list[dict[str, Any]]:
        """The jobs, once every one of them is finished or cancelled."""
        open_ids = list(job_ids)
        done: dict[str, dict[str, Any]] = {}

        async def all_ended() -> bool:
            jobs = await asyncio.gather(*(self.job(job_id) for job_id in open_ids if job_id not in done))
            done.update({job["job_id"]: job for job in jobs if job["status"] != "processing"})
            assert len(done) == len(open_ids), f"{len(open_ids) - len(done)} of {len(open_ids)} jobs still processing"
            return True

        await eventually(all_ended, within_s=within_s, every_s=0.1)
        return [done[job_id] for job_id in open_ids]

    async def finished(self, job_ids: Iterable[str], within_s: float = ENDS_WITHIN_S) -> list[dict[str, Any]]:
        """The jobs, once every one of them is finished; cancelled is a failure."""
        jobs = await self.ended(job_ids, within_s)
        assert {job["status"] for job in jobs} <= {"finished"}
        return jobs

    async def raw(self, request: bytes, *, half_close: bool = False) -> Answer | None:
        """Send bytes that no HTTP library would; None when the connection was closed without an answer."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port or 80)
        try:
            writer.write(request)
            await writer.drain()
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(20):
                return await _answer(reader)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer | None:
    """Read one answer; Hasty's answers all carry a Content-Length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, body)


def message_of(status: int, content_type: str | None, body: bytes) -> str:
    """The text of an answer that must be a refusal in the contract's shape.

    Raises:
        AssertionError: it is not a 4xx, not JSON, or not `{"message": "<text>"}`.
    """
    assert 400 <= status < 500, (status, body)
    assert content_type == "application/json", (content_type, body)
    answer = json.loads(body)
    assert list(answer) == ["message"], answer
    message = answer["message"]
    assert isinstance(message, str), answer
    assert message, answer
    assert "Traceback" not in message, answer
    return message


def problem_of(status: int, content_type: str | None, body: bytes) -> str:
    """The text of an answer that must be a refusal in the shape of `/v1`.

    Raises:
        AssertionError: it is not a 4xx, or no problem.
    """
    assert 400 <= status < 500, (status, body)
    assert content_type == "application/problem+json", (content_type, body)
    problem = json.loads(body)
    assert problem["status"] == status, problem
    assert problem["type"].startswith("urn:hasty:problem:"), problem
    detail = problem["detail"]
    assert isinstance(detail, str), problem
    assert detail, problem
    return detail


def refusal(response: httpx.Response) -> str:
    """The text of an answer that must be a refusal in the contract's shape."""
    return message_of(response.status_code, response.headers.get("content-type"), response.content)
