"""Whether an object may have a new job."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.domain import OVERDUE_GROWS_UP_TO, Admit, Run, TooSoon, admit, overdue_after
from hasty.jobs import object_id_problem

times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
spans = st.timedeltas(timedelta(0), timedelta(days=30))
runs = st.builds(Run, st.just("x"), st.integers(1, 10**6), st.uuids().map(str), times)


@pytest.mark.parametrize(
    ("object_id", "problem"),
    [
        ("", "object_id must not be empty"),
        ("x" * 256, None),
        ("x" * 257, "object_id must have at most 256 characters, this one has 257"),
        ("a\x00", "object_id must not contain control characters or lone surrogates"),
        ("\ud800", "object_id must not contain control characters or lone surrogates"),
        ("ünï 😀", None),
    ],
)
def test_problem_of_an_object_id_is_said(object_id: str, problem: str | None) -> None:
    """As callers read it."""
    assert object_id_problem(object_id) == problem


@given(now=times, cooldown=spans)
def test_a_new_object_is_admitted_as_its_first_run(now: datetime, cooldown: timedelta) -> None:
    """Nothing is held against an object that nobody knows."""
    assert admit(None, now, cooldown) == Admit(1)


@given(latest=runs, cooldown=spans, over=spans)
def test_after_the_cooldown_the_next_run_is_admitted(latest: Run, cooldown: timedelta, over: timedelta) -> None:
    """From the very moment at which it is over."""
    assert admit(latest, latest.created_at + cooldown + over, cooldown) == Admit(latest.number + 1)


@given(latest=runs, cooldown=spans, left=spans.filter(bool))
def test_within_the_cooldown_the_latest_job_is_named(latest: Run, cooldown: timedelta, left: timedelta) -> None:
    """With the time that is left of it, never more than the whole, never nothing."""
    decision = admit(latest, latest.created_at + cooldown - left, cooldown)

    if cooldown == timedelta(0):
        # A cooldown of nothing holds nobody up, not even before its time.
        assert decision == Admit(latest.number + 1)
    else:
        assert isinstance(decision, TooSoon)
        assert decision.job_id == latest.job_id
        assert decision.retry_after_s == min(left, cooldown).total_seconds() > 0


@given(latest=runs, now=times, cooldown=spans)
def test_waiting_as_long_as_told_is_enough(latest: Run, now: datetime, cooldown: timedelta) -> None:
    """And once admitted, an object stays admitted as time passes."""
    decision = admit(latest, now, cooldown)

    if isinstance(decision, TooSoon):
        waited = max(now, latest.created_at) + timedelta(seconds=decision.retry_after_s)
        # Seconds as a float may lose a microsecond of a month.
        assert admit(latest, waited + timedelta(milliseconds=1), cooldown) == Admit(latest.number + 1)
    else:
        assert admit(latest, now + timedelta(days=1), cooldown) == decision


@given(dispatches=st.integers(0, 10**6), overdue=spans)
def test_a_job_without_news_is_dispatched_again_within_bounds(dispatches: int, overdue: timedelta) -> None:
    """Never sooner than the setting, never later than a few times that, and later each time until then."""
    wait = overdue_after(dispatches, overdue)

    assert overdue <= wait <= OVERDUE_GROWS_UP_TO * overdue
    assert wait <= overdue_after(dispatches + 1, overdue)
    assert [overdue_after(count, overdue) for count in (1, 2, 3, 4, 5)] == [overdue * n for n in (1, 2, 4, 8, 8)]
