"""The overview: which second a job counts for, what it reads how often, and its verdict."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest

from api_server import overview
from api_server.domain import Lived
from api_server.overview import (
    COUNTED_PER_S,
    KEPT_S,
    LIVED_PER_S,
    SAMPLE_MAX,
    WAITING_MAX,
    Overview,
    Overviews,
    by_second,
    verdict,
)
from hasty.jobs import SLEEP, Status
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


def test_ended_jobs_are_told_from_accepted_and_unfinished_ones() -> None:
    """However long ago those were accepted that ended: between the first and the last count, and no others."""
    jobs = [lived(seconds) for seconds in (1, 5, 6, 7, 20)]
    counts = [(NOW - timedelta(seconds=ago), unfinished) for ago, unfinished in ((90, 0), (12, 50), (9, 99), (2, 33))]
    first = NOW - timedelta(seconds=60)
    assert overview.ended_per_s(jobs, counts, first, NOW) == (3 + 50 - 33) / 10
    assert overview.ended_per_s(jobs, [*counts[:3], (counts[3][0], 54)], first, NOW) == 0
    assert overview.ended_per_s(jobs, counts[:2], first, NOW) is None
    assert overview.ended_per_s(jobs, counts, NOW - timedelta(seconds=8), NOW) is None
    assert overview.ended_per_s(jobs, [], first, NOW) is None


class Jobs:
    """Jobs that come at a steady rate and do not end."""

    def __init__(self, per_s: int, unfinished: int = 0) -> None:
        self.per_s = per_s
        self.count = unfinished
        self.spans_s: list[float] = []
        self.counts = 0
        self.asked_of: list[set[str]] = []
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

    async def unfinished_of(self, kinds: Collection[str], root_kind: str, limit: int) -> Counter[str]:
        """Half of them are of the root kind, and half of another."""
        self.asked_of.append(set(kinds))
        half = min(self.count, limit) // 2
        return Counter({kind: half for kind in (root_kind, "resize") if kind in kinds})


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
    overviews = Overviews(jobs, now=clock.now, root_kind=SLEEP)
    shown = []
    for _ in range(seconds * 2):
        shown.append(await overviews.latest())
        clock.s += KEPT_S / 2
    return shown


async def test_jobs_older_than_a_minute_count_when_they_end(clock: Clock) -> None:
    """No job that came within the minute has ended; two a second of the older ones do, and then none is told."""
    jobs = Jobs(per_s=10, unfinished=1_000)
    overviews = Overviews(jobs, now=clock.now, root_kind=SLEEP)
    told = []
    for _ in range(100):
        told.append((await overviews.latest()).ended_per_s)
        jobs.count += 8
        clock.s += KEPT_S
    assert told[:2] == [None, None]
    assert set(told[4:]) == {2}
    jobs.count = WAITING_MAX
    for _ in range(5):
        clock.s += WAITING_MAX / COUNTED_PER_S
        latest = await overviews.latest()
    assert latest.ended_per_s is None


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
    overviews = Overviews(jobs, now=clock.now, root_kind=SLEEP)
    assert (await overviews.latest()).sampled
    jobs.per_s = 10
    clock.s += SAMPLE_MAX / LIVED_PER_S
    latest = await overviews.latest()
    assert (latest.span_s, latest.accepted, latest.sampled) == (60.0, 600, False)


async def test_count_that_fails_is_no_overview(clock: Clock) -> None:
    """It is not shown as if nothing waited, and made with the next try."""
    jobs = Jobs(per_s=1, unfinished=7)
    jobs.away = True
    overviews = Overviews(jobs, now=clock.now, root_kind=SLEEP)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await overviews.latest()
    jobs.away = False
    assert (await overviews.latest()).unfinished == 7


async def test_jobs_are_counted_by_kind_while_one_is_unserved(clock: Clock) -> None:
    """Not before, nor while nothing is unfinished; not more often than an overview is made, and less often for many."""
    jobs = Jobs(per_s=1, unfinished=10)
    unserved = frozenset[str]()
    overviews = Overviews(jobs, now=clock.now, root_kind=SLEEP, unserved=lambda: unserved)
    assert (await overviews.latest()).unserved == {}
    unserved = frozenset({"resize"})
    clock.s += KEPT_S
    assert [(await overviews.latest()).unserved for _ in range(2)] == [{"resize": 5}] * 2
    unserved = frozenset({"resize", SLEEP})
    jobs.count = 5_000
    clock.s += KEPT_S
    assert (await overviews.latest()).unserved == {SLEEP: 2_500, "resize": 2_500}
    for _ in range(3):
        clock.s += KEPT_S
        await overviews.latest()
    assert jobs.asked_of == [{"resize"}, {"resize", SLEEP}]
    clock.s += 5_000 / LIVED_PER_S
    await overviews.latest()
    assert len(jobs.asked_of) == 3
    unserved, jobs.count = frozenset(), 0
    clock.s += KEPT_S
    assert (await overviews.latest()).unserved == {}
    unserved = frozenset({"resize"})
    clock.s += KEPT_S
    assert (await overviews.latest()).unserved == {}
    assert len(jobs.asked_of) == 3


def seen(unfinished: int = 0, *, failed: int = 0, **unserved: int) -> Overview:
    """120 jobs in a minute, of which some failed, and what has not ended."""
    statuses = dict.fromkeys(Status, 0) | {Status.FAILED: failed, Status.FINISHED: 120 - failed}
    return Overview(
        NOW,
        60,
        120,
        statuses,
        sampled=False,
        to_start=None,
        to_end=None,
        unfinished=unfinished,
        seconds=[],
        unserved=unserved,
    )


@pytest.mark.parametrize(
    ("now", "workers", "silent", "said"),
    [
        (seen(), 0, [], "No worker is heard, and no job waits"),
        (seen(1), 0, ["w-1"], "No worker is heard: 1 job waits"),
        (seen(41, resize=41), 0, [], "No worker is heard: 41 jobs wait"),
        (seen(WAITING_MAX), 0, [], "No worker is heard: at least 10,000 jobs wait"),
        (seen(50, resize=41), 2, [], "No worker serves resize: 41 jobs wait"),
        (seen(50, resize=1), 2, ["w-1"], "No worker serves resize: 1 job waits"),
        (seen(50, b=3, a=2), 2, [], "No worker serves b, a: 5 jobs wait"),
        (seen(50, a=2, b=2, c=2, d=1, e=1), 2, [], "No worker serves a, b, c and 2 more: 8 jobs wait"),
        (seen(WAITING_MAX, resize=2_000), 2, [], "No worker serves resize: at least 2,000 jobs wait"),
        (seen(7), 2, ["w-1"], "w-1 is silent: what it held begins elsewhere"),
        (seen(7, failed=60), 2, ["w-1", "w-2"], "w-1, w-2 are silent: what they held begins elsewhere"),
        (seen(7, failed=60), 2, [], "60 of 120 jobs of the last 60 s failed"),
        (seen(7, failed=59), 2, [], "All is well: 2.0 jobs/s, 7 jobs under way"),
        (seen(WAITING_MAX), 2, [], "All is well: 2.0 jobs/s, at least 10,000 jobs under way"),
        (seen(), 2, [], "All is well: 2.0 jobs/s, nothing waits"),
    ],
)
def test_verdict_is_the_worst_of_all(now: Overview, workers: int, silent: list[str], said: str) -> None:
    """No worker, then kinds without one, then silent workers, then failures."""
    assert verdict(now, workers, silent) == said
