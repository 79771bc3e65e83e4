"""The overview's rates: which second a job counts for."""

from datetime import UTC, datetime, timedelta

from api_server.domain import Lived
from api_server.overview import by_second
from hasty.jobs import Status

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def lived(created_ago_s: float, ended_ago_s: float | None = None) -> Lived:
    """A job by how long ago it was created and has ended."""
    ended_at = None if ended_ago_s is None else NOW - timedelta(seconds=ended_ago_s)
    status = Status.PROCESSING if ended_ago_s is None else Status.FINISHED
    return Lived(NOW - timedelta(seconds=created_ago_s), status, None, ended_at)


def test_seconds_count_accepted_and_ended_jobs() -> None:
    """The oldest second first, the one that ends now last."""
    jobs = [lived(0.5), lived(0.9, 0.1), lived(2.5, 1.0), lived(2.9)]
    assert by_second(jobs, NOW, timedelta(seconds=3)) == [(2, 0), (0, 1), (2, 1)]


def test_span_below_a_second_is_one_second() -> None:
    """So many jobs came that the sample holds less."""
    assert by_second([lived(0.1), lived(0.2, 0.1)], NOW, timedelta(milliseconds=300)) == [(2, 1)]
