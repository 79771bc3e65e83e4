"""The original's own end-to-end test, with its default sleeps of 15 to 45 seconds."""

import os
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.client import TOO_SOON, Hasty, new_object_id
from tests.e2e.stacks import running

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.starts_first,
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """HASTY_URL, or a stack in which no setting is changed."""
    given = os.environ.get("HASTY_URL")
    if given:
        yield given.rstrip("/")
        return
    async with running(tmp_path_factory.mktemp("defaults"), environment={}) as stack:
        yield stack.url


async def test_the_five_steps_of_the_original(url: str) -> None:
    """Create; create again; ask for another; ask for it; ask again when it has slept."""
    object_id = new_object_id()
    async with Hasty.at(url) as hasty:
        others = await hasty.create_many(20)
        started = time.monotonic()
        created = await hasty.ask(object_id)
        assert created.status_code == 201
        job_id = created.json()["message"]["job_id"]

        again = await hasty.ask(object_id)
        assert (again.status_code, again.content) == (400, TOO_SOON)

        other = await hasty.get("non-existing-job")
        assert (other.status_code, other.content) == (400, b'{"message":"no job with id: non-existing-job"}')

        shown = await hasty.job(job_id)
        assert (shown["object_id"], shown["status"], shown["sleep_time_used"]) == (object_id, "processing", 0)

        [finished] = await hasty.finished([job_id])
        took_s = time.monotonic() - started
        assert 15 <= finished["sleep_time_used"] <= 45
        assert finished == shown | {"status": "finished", "sleep_time_used": finished["sleep_time_used"]}
        # It slept as long as it says, and the news of its end took little time.
        assert finished["sleep_time_used"] - 1 <= took_s <= finished["sleep_time_used"] + 3

        # One job says little about what is left to chance.
        sleeps = {job["sleep_time_used"] for job in await hasty.finished(others)}
        assert len(sleeps) > 1
        assert min(sleeps) >= 15
        assert max(sleeps) <= 45
