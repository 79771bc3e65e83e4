"""Slow and greedy callers at nginx: they use up a share of its connections, and nobody else's."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.eventually import eventually
from tests.loopback import Request
from tests.stack.stacks import config

pytestmark = pytest.mark.own_stack

# On Linux every address of 127.0.0.0/8 is this machine's: each is another caller.
SLOW_CALLERS = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
CALLER = "127.0.0.6"
UPLOADS_EACH = 1990
# Less than nginx waits for the next byte.
BYTE_EVERY_S = 3


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """As many connections as this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(SLOW_CALLERS) * UPLOADS_EACH + 500
    assert hard == resource.RLIM_INFINITY or hard >= needed, f"raise the limit of open files to {needed} (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """One stand-in behind nginx."""
    async with Stack.running(config(tmp_path, job_servers=0)) as running:
        yield running


@asynccontextmanager
async def uploads(stack: Stack, addresses: Sequence[str], each: int, head: str) -> AsyncIterator[list[Request]]:
    """So many uploads from each address, which go on so slowly that they do not end before the block is left."""
    transports: list[asyncio.Transport] = []
    requests: list[Request] = []

    async def go_on() -> None:
        while True:
            await asyncio.sleep(BYTE_EVERY_S)
            for transport in transports:
                transport.write(b"1\r\nx\r\n" if "chunked" in head else b"x")

    going_on = asyncio.create_task(go_on(), name="slow uploads")
    try:
        for address in addresses:
            for _ in range(each):
                transport, request = await Request.sent(
                    stack.url, address, head, b"1\r\nx\r\n" if "chunked" in head else b"x"
                )
                transports.append(transport)
                requests.append(request)
        yield requests
    finally:
        going_on.cancel()
        for transport in transports:
            transport.abort()


async def answered(stack: Stack, address: str, head: str = "Content-Length: 2", body: bytes = b"{}") -> Request:
    """A whole request, once it has its answer."""
    transport, request = await Request.sent(stack.url, address, head, body)
    try:
        await eventually(lambda: request.status)
    finally:
        transport.abort()
    return request


def refused(requests: list[Request]) -> int:
    """How many of them were refused, in the contract's shape and with the time to come back."""
    answers = [request.answer for request in requests if request.status is not None]
    assert all(answer.startswith(b"HTTP/1.1 429 ") for answer in answers)
    assert all(b"\r\nRetry-After: 1\r\n" in answer and b'{"message": "too many' in answer for answer in answers)
    return len(answers)


async def test_slow_uploads_of_some_keep_no_other_out(stack: Stack) -> None:
    """Four addresses begin 7,960 uploads that never end, and a fifth is answered."""
    async with uploads(stack, SLOW_CALLERS, UPLOADS_EACH, "Content-Length: 100"):

        async def shares_used_up() -> bool:
            return {(await answered(stack, address)).status for address in SLOW_CALLERS} == {429}

        await eventually(shares_used_up)
        assert [(await answered(stack, CALLER)).status for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("head", ["Content-Length: 60000", "Transfer-Encoding: chunked"])
async def test_few_large_uploads_at_once_from_one_address(stack: Stack, head: str) -> None:
    """The rest of them is refused at once; its small requests pass, and so do large ones of others."""
    async with uploads(stack, [CALLER], 100, head) as begun:
        await eventually(lambda: refused(begun) >= 36)
        assert (await answered(stack, CALLER)).status == 200
        assert (await answered(stack, SLOW_CALLERS[0], "Content-Length: 60000", b"x" * 60000)).status == 200
        assert refused(begun) == 36


async def test_refusal_for_limit_takes_its_time(stack: Stack) -> None:
    """Whoever comes back at once, whatever Retry-After says, is kept waiting for about a second."""
    async with uploads(stack, [CALLER], 64, "Content-Length: 60000"):

        async def refusal_took_s() -> float | None:
            sent = time.monotonic()
            over_limit = await answered(stack, CALLER, "Content-Length: 60000", b"x" * 60000)
            return time.monotonic() - sent if over_limit.status == 429 else None

        took_s = await eventually(refusal_took_s, within_s=60)
        assert took_s is not None
        assert took_s >= 0.5


async def test_large_uploads_of_all_callers_are_bounded(stack: Stack) -> None:
    """What nginx keeps of them in memory is bounded, however many callers there are."""
    addresses = [f"127.0.1.{number}" for number in range(1, 11)]
    async with uploads(stack, addresses, 64, "Content-Length: 60000") as begun:
        await eventually(lambda: refused(begun) >= 10 * 64 - 512)
        assert (await answered(stack, CALLER)).status == 200
        assert refused(begun) == 10 * 64 - 512
