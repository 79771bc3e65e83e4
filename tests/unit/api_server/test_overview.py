"""The overview: which second a job counts for, and what it reads how often."""

from datetime import UTC, datetime, timedelta

import pytest

from api_server import overview
from api_server.domain import Lived
from api_server.overview import COUNTED_PER_S, KEPT_S, LIVED_PER_S, SAMPLE_MAX, Overviews, by_second
from hasty.jobs import Status
from hasty.server.mongo import StoreUnavailable

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


class Jobs:
    """Jobs that come at a steady rate and do not end."""

    def __init__(self, per_s: int, unfinished: int = 0) -> None:
        self.per_s = per_s
        self.count = unfinished
        self.spans_s: list[float] = []
        self.counts = 0
        self.away = False

    async def lived(self, first: datetime, last: datetime, limit: int) -> list[Lived]:
        """The newest of them."""
        self.spans_s.append((last - first).total_seconds())
        many = min(round(self.spans_s[-1] * self.per_s), limit)
        return [lived((NOW - last).total_seconds() + n / self.per_s) for n in range(many)]

    async def unfinished(self, limit: int) -> int:
        """As many as were said."""
        self.counts += 1
        if self.away:
            raise StoreUnavailable("away")
        return min(self.count, limit)


class Clock:
    """The loop's time, which stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        """Tell it."""
        return self.s

    def now(self) -> datetime:
        """Tell the database's."""
        return NOW + timedelta(seconds=self.s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that overviews go by."""
    made = Clock()
    monkeypatch.setattr(overview, "_loop_time", made)
    return made


async def followed(jobs: Jobs, clock: Clock, seconds: int) -> list[overview.Overview]:
    """Ask twice a second, for so many seconds."""
    overviews = Overviews(jobs, now=clock.now)
    shown = []
    for _ in range(seconds * 2):
        shown.append(await overviews.latest())
        clock.s += KEPT_S / 2
    return shown


async def test_few_jobs_are_looked_at_each_second(clock: Clock) -> None:
    """And counted; whoever asks more often gets the same."""
    jobs = Jobs(per_s=10, unfinished=600)
    shown = await followed(jobs, clock, seconds=10)
    assert jobs.spans_s == [60.0] * 10
    assert jobs.counts == 10
    assert shown[0] is shown[1]
    assert [each.at for each in shown[::2]] == [NOW + timedelta(seconds=100 + s) for s in range(10)]


async def test_many_jobs_are_looked_at_less_often(clock: Clock) -> None:
    """So many a second on average, and no further back than they go; the time and the tick are of each second."""
    jobs = Jobs(per_s=1_000, unfinished=10_000)
    shown = await followed(jobs, clock, seconds=60)
    assert len(jobs.spans_s) == 60 * LIVED_PER_S / SAMPLE_MAX
    assert jobs.spans_s[0] == 60.0
    assert max(jobs.spans_s[1:]) < 10
    assert jobs.counts == 60 * COUNTED_PER_S / 10_000
    assert len({each.at for each in shown}) == 60
    assert {(each.accepted, each.sampled, each.unfinished) for each in shown} == {(SAMPLE_MAX, True, 10_000)}


async def test_minute_is_whole_again_when_fewer_jobs_come(clock: Clock) -> None:
    """A look that went back too little goes back over all of it."""
    jobs = Jobs(per_s=1_000)
    overviews = Overviews(jobs, now=clock.now)
    assert (await overviews.latest()).sampled
    jobs.per_s = 10
    clock.s += SAMPLE_MAX / LIVED_PER_S
    latest = await overviews.latest()
    assert (latest.span_s, latest.accepted, latest.sampled) == (60.0, 600, False)


async def test_count_that_fails_is_no_overview(clock: Clock) -> None:
    """It is not shown as if nothing waited, and made with the next try."""
    jobs = Jobs(per_s=1, unfinished=7)
    jobs.away = True
    overviews = Overviews(jobs, now=clock.now)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await overviews.latest()
    jobs.away = False
    assert (await overviews.latest()).unfinished == 7
