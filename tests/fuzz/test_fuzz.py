"""Whatever is sent, on either port: right answers in order, nothing in the logs, and everything released."""

import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.e2e.stacks import running, services, tracebacks
from tests.fuzz import campaign

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.own_stack,
    pytest.mark.starts_first,
]

SECONDS = 30
"""For each port."""

SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A whole system with jobs that end at once."""
    async with running(tmp_path_factory.mktemp("fuzz"), environment=campaign.QUICK_JOBS) as stack:
        yield stack


async def test_own_port_survives_fuzzing(stack: Stack) -> None:
    """The api-server's own port, past nginx."""
    [api_server] = services(stack, "api-server")
    report = await campaign.run(stack, api_server.port, seed=SEED, seconds=SECONDS, proxied=False)
    assert report.violations == [], str(report)
    assert tracebacks(stack) == []
    assert report.conversations > 100
    assert report.answers > 100


async def test_nginx_port_survives_fuzzing(stack: Stack) -> None:
    """The way that every caller takes."""
    port = urlsplit(stack.url).port
    assert port is not None
    report = await campaign.run(stack, port, seed=SEED, seconds=SECONDS, proxied=True)
    assert report.violations == [], str(report)
    assert tracebacks(stack) == []
    assert report.conversations > 100
    assert report.answers > 100
