"""How long a job sleeps, and how it ends."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hasty.jobs import Status
from job_server.domain import choose_sleep_s, ended_after

lengths = st.integers(0, 10**6) | st.floats(0, 10**6, allow_nan=False)


@given(pair=st.tuples(lengths, lengths).map(sorted), seed=st.integers(0, 2**32))
def test_a_sleep_is_within_its_bounds(pair: list[float], seed: int) -> None:
    """And in whole seconds, as the original's, when the bounds are whole."""
    least, most = pair
    chance = random.Random(seed)

    slept = choose_sleep_s(least, most, chance.randint, chance.uniform)

    # Milliseconds are all the precision there is.
    assert least - 0.0005 <= slept <= most + 0.0005
    if least == int(least) and most == int(most):
        assert isinstance(slept, int)


@given(seed=st.integers(0, 2**32))
def test_the_default_is_the_originals(seed: int) -> None:
    """15 to 45 seconds, both included, never more."""
    chance = random.Random(seed)

    assert {choose_sleep_s(15.0, 45.0, chance.randint, chance.uniform) for _ in range(20)} <= set(range(15, 46))


@given(needed=lengths, timeout=lengths)
def test_the_timeout_decides_how_a_job_ends(needed: float, timeout: float) -> None:
    """In time is finished; otherwise it is cancelled when the timeout is over, not later."""
    if needed <= timeout:
        assert ended_after(needed, timeout) == (Status.FINISHED, needed)
    else:
        assert ended_after(needed, timeout) == (Status.CANCELLED, timeout)
