"""Ids as people type them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hasty.cli.ids import NAMED, resolve
from hasty.client.model import Job, decoded
from tests.unit.client.scripted import job


class Jobs:
    """A client of a server that has these jobs, the newest first."""

    def __init__(self, *jobs: Job) -> None:
        self._jobs = jobs

    def jobs(self, **_: object) -> tuple[Job, ...]:
        """All of them."""
        return self._jobs


def some(count: int) -> list[Job]:
    """Jobs whose ids begin alike, each a minute older than the one before."""
    now = datetime.now(UTC)
    return [
        decoded(
            Job,
            job(
                id=f"01a21cd1-0000-7000-8000-{n:012}",
                kind="greet" if n else "thumbnail",
                status="processing" if n else "finished",
                phase="queued" if n else None,
                created_at=(now - timedelta(minutes=3 + n)).isoformat(),
            ),
        )
        for n in range(count)
    ]


def test_jobs_that_may_be_meant_are_listed_to_choose_from(capsys: pytest.CaptureFixture[str]) -> None:
    """One on each line, with how it is, its kind and its age."""
    client: Any = Jobs(*some(2))
    with pytest.raises(SystemExit) as left:
        resolve(client, "01a2")
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "hasty: 01a2 matches 2 jobs; give more of the id:",
        "  01a21cd1-0000-7000-8000-000000000000  finished  thumbnail  3 min ago",
        "  01a21cd1-0000-7000-8000-000000000001  queued    greet      4 min ago",
    ]


def test_at_most_ten_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """And it is said how many more there are."""
    client: Any = Jobs(*some(37))
    with pytest.raises(SystemExit):
        resolve(client, "01a2")
    first, *listed, last = capsys.readouterr().err.splitlines()
    assert (first, len(listed), last) == (
        "hasty: 01a2 matches 37 jobs; give more of the id:",
        NAMED,
        "  and 27 older ones",
    )
    assert resolve(client, "000000000036") == "01a21cd1-0000-7000-8000-000000000036"
