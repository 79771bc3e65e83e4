"""The life of a job: one table, and everything else follows from it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from hasty import jobs
from hasty.jobs import NEXT, TERMINAL, Status, can_move
from hasty.server.messaging.events import ENDING_SUBJECTS


def test_the_table_is_the_one_that_was_agreed() -> None:
    """A job is processing, then finished, failed or cancelled, for ever."""
    assert {
        Status.PROCESSING: {Status.FINISHED, Status.FAILED, Status.CANCELLED},
        Status.FINISHED: set(),
        Status.FAILED: set(),
        Status.CANCELLED: set(),
    } == NEXT


def test_the_description_of_the_module_mirrors_the_table() -> None:
    """Who reads the one knows the other."""
    arrows = re.findall(r"(\w+) -> (\w+)", jobs.__doc__ or "")

    assert sorted(arrows) == sorted((start, end) for start, ends in NEXT.items() for end in ends)


@given(st.lists(st.sampled_from(Status)))
def test_a_status_never_goes_back(wishes: list[Status]) -> None:
    """Whatever is asked of a job in whatever order, it moves at most once."""
    status, history = Status.PROCESSING, [Status.PROCESSING]
    for wish in wishes:
        if can_move(status, wish):
            status = wish
            history.append(status)

    terminal = [wish for wish in wishes if wish in TERMINAL]
    assert history == [Status.PROCESSING, *terminal[:1]]


def test_endings_of_each_status_have_a_subject_of_their_own() -> None:
    """What a job-server publishes on a subject is what an api-server makes of it."""
    assert sorted(ENDING_SUBJECTS) == sorted(Status)
    assert len(set(ENDING_SUBJECTS.values())) == len(Status)
