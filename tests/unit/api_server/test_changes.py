"""Changes: what is read for those who follow, and what they are told when there is more."""

from collections.abc import Sequence
from datetime import UTC, datetime

from api_server.changes import CHANGES_MAX, ROWS_MAX, Changes
from api_server.domain import JobRecord
from hasty.jobs import Job

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def record(job_id: str) -> JobRecord:
    """A job."""
    return JobRecord(Job(job_id, job_id, 1, NOW), None, None, None, ())


class Jobs:
    """Jobs that were created just now."""

    def __init__(self, created: int) -> None:
        self.rows = [record(f"new-{n}") for n in reversed(range(created))]
        self.read: list[str] = []

    async def created_between(self, first: datetime, last: datetime, limit: int) -> list[JobRecord]:
        """The newest of them."""
        assert first < last
        return self.rows[:limit]

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """All that is known of some."""
        self.read.extend(job_ids)
        return {job_id: record(job_id) for job_id in job_ids}


async def look(created: int, ended: int) -> tuple[Jobs, list[str], bool]:
    """Look once: the jobs, what a follower gets, and whether it is told that there was more."""
    jobs = Jobs(created)
    changes = Changes(jobs, now=lambda: NOW)
    with changes.followed() as follower:
        changes.note(f"old-{n}" for n in range(ended))
        await changes._look()  # noqa: SLF001 - what it does once a second
        return jobs, [change.record.job.job_id for change in follower.take()], follower.take_dropped()


async def test_few_changes_are_all_passed_on() -> None:
    """The oldest first, and nobody is told to read again."""
    jobs, passed_on, dropped = await look(3, 2)
    assert passed_on == ["new-0", "new-1", "new-2", "old-0", "old-1"]
    assert jobs.read == ["old-0", "old-1"]
    assert not dropped


async def test_of_many_changes_the_newest_are_read_and_passed_on() -> None:
    """However many there are: whole jobs are dear, under load they would be read by the thousand."""
    for created, ended in ((CHANGES_MAX + 1, 0), (0, CHANGES_MAX + 1), (10 * ROWS_MAX, 10 * ROWS_MAX)):
        jobs, passed_on, dropped = await look(created, ended)
        assert dropped
        assert len(jobs.read) == min(ended, CHANGES_MAX)
        assert len(passed_on) == min(created, CHANGES_MAX) + min(ended, CHANGES_MAX)
        assert passed_on[-1] in {f"new-{created - 1}", f"old-{ended - 1}"}


async def test_nobody_who_follows_costs_nothing() -> None:
    """Not even the memory of what has ended."""
    changes = Changes(Jobs(1), now=lambda: NOW)
    changes.note(["old"])
    assert not changes._ended  # noqa: SLF001
