"""The life of a job: one table, and everything else follows from it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server import domain
from api_server.domain import NEXT, TERMINAL, Status, moves
from api_server.service import STATUS_OF
from job_server.domain import Ending
from job_server.service import SUBJECT_OF


def test_the_table_is_the_one_that_was_agreed() -> None:
    """A job is processing, then finished or cancelled, for ever."""
    assert {
        Status.PROCESSING: {Status.FINISHED, Status.CANCELLED},
        Status.FINISHED: set(),
        Status.CANCELLED: set(),
    } == NEXT


def test_the_description_of_the_module_mirrors_the_table() -> None:
    """Who reads the one knows the other."""
    arrows = re.findall(r"(\w+) -> (\w+)", domain.__doc__ or "")

    assert sorted(arrows) == sorted((start, end) for start, ends in NEXT.items() for end in ends)


@given(st.lists(st.sampled_from(Status)))
def test_a_status_never_goes_back(wishes: list[Status]) -> None:
    """Whatever is asked of a job in whatever order, it moves at most once."""
    status, history = Status.PROCESSING, [Status.PROCESSING]
    for wish in wishes:
        if moves(status, wish):
            status = wish
            history.append(status)

    terminal = [wish for wish in wishes if wish in TERMINAL]
    assert history == [Status.PROCESSING, *terminal[:1]]


@pytest.mark.parametrize("ending", Ending)
def test_both_services_mean_the_same_by_an_end(ending: Ending) -> None:
    """What a job-server tells on a subject is what an api-server makes of it."""
    assert STATUS_OF[SUBJECT_OF[ending]].value == ending.value
    assert {status.value for status in TERMINAL} == {ending.value for ending in Ending}
