"""How turns end, as decided by the policy of their kind."""

import uuid
from dataclasses import replace

import pytest

from hasty.jobs import Failure, Kind, Reason, Report, Status, Task, Turn, Way
from hasty.retry import Retry, delay_s
from job_server.domain import conclude, hand_back_delay_s
from job_server.runs import Result

KIND = Kind("resize", Way.ASYNC, "v1", "{}", "{}", attempts=3, first_s=2, most_s=10)
FAILURE = Failure(Reason.EXCEPTION, "OSError", "no")
FAILED = Result(Status.FAILED, 10, 11, "v1", 1, failure=FAILURE)


def turn(attempt: int = 1, attempts: int | None = None) -> Turn:
    """A turn of a job."""
    job_id = str(uuid.uuid4())
    return Turn(job_id, job_id, 1, attempt, Task("resize", "{}", attempt, attempts))


def conclusion(one: Turn, result: Result) -> tuple[Status, float, bool]:
    """How it ends: status, delay, and whether it spent an attempt."""
    found = conclude(one, KIND, result, "a worker", lambda: 1.0)
    assert found is not None
    status, report = found
    concluded = replace(report, delay_s=0, counts=True)
    times = (result.started_at, result.ended_at)
    assert concluded == Report("a worker", result.version, *times, result.run, result.output, result.failure)
    return status, report.delay_s, report.counts


@pytest.mark.parametrize(("attempt", "delay"), [(1, 2), (2, 4)])
def test_failed_attempt_is_followed_by_another(attempt: int, delay: float) -> None:
    """Each waits twice as long as the one before."""
    assert conclusion(turn(attempt), FAILED) == (Status.PROCESSING, delay, True)


def test_last_attempt_fails_the_job() -> None:
    """The policy says which that is, unless the caller did."""
    assert conclusion(turn(3), FAILED) == (Status.FAILED, 0, True)
    assert conclusion(turn(1, attempts=1), FAILED) == (Status.FAILED, 0, True)
    assert conclusion(turn(3, attempts=4), FAILED)[0] is Status.PROCESSING


def test_final_failure_is_followed_by_no_attempt() -> None:
    """As when the handler raised Fail, or was lost when it ran alone."""
    assert conclusion(turn(1), replace(FAILED, final=True)) == (Status.FAILED, 0, True)


def test_snooze_spends_no_attempt() -> None:
    """However often."""
    snoozed = Result(Status.PROCESSING, 10, 11, "v1", 1, delay_s=30)
    assert conclusion(turn(3), snoozed) == (Status.PROCESSING, 30, False)


def test_finished_and_cancelled_runs_are_final() -> None:
    """Whatever the policy."""
    assert conclusion(turn(1), Result(Status.FINISHED, 10, 11, "v1", 1, output="1")) == (Status.FINISHED, 0, True)
    assert conclusion(turn(1), Result(Status.CANCELLED, 10, 11, "v1", 1)) == (Status.CANCELLED, 0, True)


def test_input_that_is_not_understood_has_no_conclusion() -> None:
    """The turn is handed back, each time for longer, but never for more than ten seconds; some for half as long."""
    assert conclude(turn(), KIND, Result(None, 10, 10, "v1", 1), "a worker", lambda: 1.0) is None
    assert [hand_back_delay_s(attempt, 1) for attempt in (1, 2, 3, 100)] == [0.25, 0.5, 1, 10]
    assert [hand_back_delay_s(attempt, 0) for attempt in (1, 2, 3, 100)] == [0.125, 0.25, 0.5, 5]


def test_input_that_its_own_version_took_fails() -> None:
    """Its schema took it, its types do not: nobody else would understand it better."""
    one = replace(turn(), task=Task("resize", "{}", versions=("v1",)))
    failure = Failure(Reason.EXCEPTION, "InputRefused", "/name: no date")
    refused = Result(None, 10, 10, "v1", 1, failure=failure, final=True)

    concluded = conclude(one, KIND, refused, "a worker", lambda: 1.0)

    assert concluded is not None
    assert (concluded[0], concluded[1].failure) == (Status.FAILED, failure)
    assert conclude(one, KIND, replace(refused, version="v2"), "a worker", lambda: 1.0) is None
    # Its code is another one by now.
    assert conclude(one, KIND, replace(refused, failure=None), "a worker", lambda: 1.0) is None


@pytest.mark.parametrize(
    ("attempts", "first_s", "most_s", "problem"),
    [
        (1, 0, 0, None),
        (2, 0.5, 0.5, None),
        (0, 1, 1, "attempts is 0: there is at least one attempt"),
        (1, -1, 1, "first_s is -1 and most_s 1: 0 <= first_s <= most_s"),
        (1, 3, 2, "first_s is 3 and most_s 2: 0 <= first_s <= most_s"),
    ],
)
def test_policy_without_an_order_is_refused(attempts: int, first_s: float, most_s: float, problem: str | None) -> None:
    """Waits may be nothing, but not less."""
    if problem is None:
        assert Retry(attempts, first_s, most_s).attempts == attempts
    else:
        with pytest.raises(ValueError, match=f"^{problem}$"):
            Retry(attempts, first_s, most_s)


def test_waits_double_up_to_the_most_with_jitter() -> None:
    """Between half of the wait and the whole."""
    policy = Retry(attempts=9, first_s=2, most_s=10)
    assert [delay_s(policy, attempt, lambda: 1.0) for attempt in (1, 2, 3, 4, 9, 1000)] == [2, 4, 8, 10, 10, 10]
    assert [delay_s(policy, attempt, lambda: 0.0) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 5]
