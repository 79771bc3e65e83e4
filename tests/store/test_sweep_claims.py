"""Who sweeps, on the fake and on a real server alike."""

import asyncio

import pytest

from api_server.domain import Claimed
from tests.store.jobs import NOON, SECOND, Store

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_one_owner_claims_the_sweeps(jobs: Store) -> None:
    """The first one, and it may renew; another one gets them when they were not renewed."""
    assert await jobs.claim_sweeps("one", NOON, NOON + 5 * SECOND)
    assert not await jobs.claim_sweeps("two", NOON + SECOND, NOON + 6 * SECOND)
    assert await jobs.claim_sweeps("one", NOON + 2 * SECOND, NOON + 7 * SECOND)
    assert not await jobs.claim_sweeps("two", NOON + 6 * SECOND, NOON + 11 * SECOND)
    assert await jobs.claim_sweeps("two", NOON + 7 * SECOND, NOON + 12 * SECOND)
    assert not await jobs.claim_sweeps("one", NOON + 8 * SECOND, NOON + 13 * SECOND)


async def test_claim_tells_whether_another_one_was_left(jobs: Store) -> None:
    """Which was given back, or has run out."""
    assert await jobs.claim_sweeps("one", NOON, NOON + 5 * SECOND) is Claimed.FIRST
    assert await jobs.claim_sweeps("two", NOON, NOON + 5 * SECOND) is Claimed.NO
    assert await jobs.claim_sweeps("two", NOON + 5 * SECOND, NOON + 10 * SECOND) is Claimed.AFTER_ANOTHER
    await jobs.give_sweeps_back("two")
    assert await jobs.claim_sweeps("one", NOON + 6 * SECOND, NOON + 11 * SECOND) is Claimed.FIRST


async def test_of_claims_at_once_one_wins(jobs: Store) -> None:
    """Also the very first one."""
    claims = await asyncio.gather(*(jobs.claim_sweeps(f"owner {n}", NOON, NOON + 5 * SECOND) for n in range(8)))

    assert sum(claims) == 1


async def test_sweeps_given_back_are_free_at_once(jobs: Store) -> None:
    """By their owner; nobody gives back another's."""
    assert await jobs.claim_sweeps("one", NOON, NOON + 5 * SECOND)
    await jobs.give_sweeps_back("two")
    assert not await jobs.claim_sweeps("two", NOON + SECOND, NOON + 6 * SECOND)
    await jobs.give_sweeps_back("one")
    assert await jobs.claim_sweeps("two", NOON + SECOND, NOON + 6 * SECOND)


async def test_claim_from_before_the_clock_went_back_is_void(jobs: Store) -> None:
    """Nobody waits an hour for it; a claim that ends a little late, by another's clock, counts."""
    assert await jobs.claim_sweeps("one", NOON + 3600 * SECOND, NOON + 3605 * SECOND)
    assert await jobs.claim_sweeps("two", NOON, NOON + 5 * SECOND)
    assert not await jobs.claim_sweeps("three", NOON - SECOND / 2, NOON + 4.5 * SECOND)


async def test_claim_of_the_sweeps_is_no_lease(jobs: Store) -> None:
    """It is not taken over, by this version or by one that knows no claims."""
    assert await jobs.claim_sweeps("one", NOON, NOON + 5 * SECOND)

    assert await jobs.abandoned(NOON + 3600 * SECOND) == []
