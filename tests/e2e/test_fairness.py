"""Callers side by side: who asks for much waits for it, and the others do not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.client import Hasty, new_object_id
from tests.e2e.conftest import QUICK
from tests.e2e.stacks import running
from tests.eventually import eventually
from tests.loopback import Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.own_stack]

BUSY_CALLER, QUIET_CALLER = "127.0.0.2", "127.0.0.3"
REQUESTS = 700
# The batch that is under way, and the largest one after it, which is one of reads.
ANSWERED_BEFORE_MAX = 400
ROUNDS = 5


@pytest_asyncio.fixture(loop_scope="session")
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """One of each."""
    async with running(tmp_path, environment=QUICK) as stack:
        yield stack


async def _post(url: str, address: str, on_answer: Callable[[], None]) -> tuple[asyncio.Transport, Request]:
    body = b'{"object_id":"%b"}' % new_object_id().encode()
    return await Request.sent(url, address, f"Content-Length: {len(body)}", body, on_answer=on_answer)


async def _get(url: str, address: str, on_answer: Callable[[], None], job_id: str) -> tuple[asyncio.Transport, Request]:
    return await Request.sent(url, address, "Accept: */*", line=f"GET /{job_id}", on_answer=on_answer)


async def _read_by_api_server(url: str, address: str) -> None:
    """Return when what was sent before has been read: what needs no database is answered after it."""
    for _ in range(10):
        transport, request = await Request.sent(url, address, "Content-Length: 2", b"{}")
        while request.status is None:  # noqa: ASYNC110 - a protocol has no other way to say so
            await asyncio.sleep(0.005)
        transport.abort()
        assert request.status == 400


async def _answers_before_quiet_caller(stack: Stack, job_id: str | None) -> int | None:
    """How many of the busy caller's requests are answered first; None when the machine was too slow for all answers."""
    order: list[str] = []
    requests: list[Request] = []
    database = stack.children["api-mongo"]

    async def ask(address: str) -> asyncio.Transport:
        def on_answer() -> None:
            order.append(address)

        sending = _get(stack.url, address, on_answer, job_id) if job_id else _post(stack.url, address, on_answer)
        transport, request = await sending
        requests.append(request)
        return transport

    with ExitStack() as opened:
        database.pause()
        try:
            for _ in range(REQUESTS):
                opened.callback((await ask(BUSY_CALLER)).abort)
            await _read_by_api_server(stack.url, BUSY_CALLER)
            opened.callback((await ask(QUIET_CALLER)).abort)
            await _read_by_api_server(stack.url, QUIET_CALLER)
        finally:
            database.resume()
        await eventually(lambda: len(order) == REQUESTS + 1)
        await eventually(lambda: all(request.status for request in requests))
    if {request.status for request in requests} > {503}:
        return None
    assert {request.status for request in requests} == {200 if job_id else 201}
    return order.index(QUIET_CALLER)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_quiet_caller_does_not_wait_for_busy_one(stack: Stack, method: str) -> None:
    """One request is answered long before the hundreds that another caller sent first."""
    async with Hasty.at(stack.url) as hasty:
        job_id = await hasty.create()
    for _ in range(ROUNDS):
        # Requests that have waited for 2.5 s are refused: then the round says nothing.
        answered_before = await _answers_before_quiet_caller(stack, job_id if method == "GET" else None)
        if answered_before is not None:
            assert answered_before <= ANSWERED_BEFORE_MAX
            return
    pytest.fail(f"in none of {ROUNDS} rounds all {REQUESTS} requests were answered")
