"""Leases, on the fake and on a real server alike."""

from dataclasses import replace
from datetime import timedelta

import pytest

from api_server.domain import Lease
from api_server.store.leases import TAKEN_OVER_AT_ONCE
from tests.store.conftest import RealStore
from tests.store.jobs import NOON, OWNER, SECOND, Store, new_job

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_lease_is_abandoned_when_it_was_not_renewed(jobs: Store) -> None:
    """The oldest comes first; a lease that was renewed since cannot be forgotten."""
    old, older, young = (Lease(name, NOON - age * SECOND, NOON) for name, age in (("a", 6), ("b", 7), ("c", 5)))
    for lease in (old, older, young):
        await jobs.renew(lease)
    assert await jobs.abandoned(NOON - 5 * SECOND) == [older, old]

    renewed = replace(older, renewed_at=NOON, watermark=NOON + SECOND)
    await jobs.renew(renewed)
    await jobs.delete(older)
    await jobs.delete(old)

    assert await jobs.abandoned(NOON + SECOND) == [young, renewed]


async def test_the_jobs_of_a_lease_can_be_taken_over(jobs: Store) -> None:
    """From its watermark on, and its owner's only; not those whose dispatch was marked meanwhile."""
    settled, theirs, mine, late = (replace(new_job(name), dispatches=1) for name in ("a", "b", "c", "d"))
    await jobs.insert([settled], NOON + 9 * SECOND, OWNER)
    await jobs.insert([theirs], NOON + 11 * SECOND, "another")
    await jobs.insert([mine], NOON + 12 * SECOND, OWNER)
    await jobs.insert([late], NOON + 13 * SECOND, OWNER)

    assert await jobs.take_over(Lease(OWNER, NOON, NOON + 10 * SECOND), NOON, NOON + 13 * SECOND) == 1

    assert await jobs.due(NOON, 10) == [replace(mine, dispatches=0, unanswered_turn=1)]


async def test_thousands_of_jobs_can_be_taken_over(real_jobs: RealStore) -> None:
    """Page by page, also past a page of others' jobs that are all due at one moment."""
    moment = NOON + 60 * SECOND
    for due, owner, count in (
        (moment, "another", TAKEN_OVER_AT_ONCE),
        (moment + timedelta(milliseconds=1), OWNER, TAKEN_OVER_AT_ONCE + 7),
    ):
        jobs = [replace(new_job(f"{owner} {number}"), dispatches=1) for number in range(count)]
        for first in range(0, count, 500):
            await real_jobs.insert(jobs[first : first + 500], due, owner)

    taken = await real_jobs.take_over(Lease(OWNER, NOON, NOON + 10 * SECOND), NOON, NOON + 99 * SECOND)

    assert taken == TAKEN_OVER_AT_ONCE + 7
    assert len(await real_jobs.due(NOON, 3 * TAKEN_OVER_AT_ONCE)) == TAKEN_OVER_AT_ONCE + 7
