"""The fake of the api-server's database answers as the real one does."""

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_server.domain import Lease
from hasty.jobs import Job, Status
from hasty.server.local_stack import Child
from tests.store.conftest import FakeStore, open_jobs
from tests.store.jobs import NOON, SECOND, ending_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


# Everything the service can ask, in any order, about a few objects and jobs, so that they meet.
_OBJECTS = st.sampled_from(["a", "b"])
_TIMES = st.integers(0, 5).map(lambda seconds: NOON + seconds * SECOND)
_NUMBERS = st.integers(1, 3)
_JOBS = st.builds(
    lambda object_id, number, which, dispatches: Job(
        f"{object_id}{number}{which}", object_id, number, NOON, dispatches=dispatches
    ),
    _OBJECTS,
    _NUMBERS,
    st.integers(0, 1),
    st.integers(0, 1),
)
_IDS = _JOBS.map(lambda job: job.job_id)
_OWNERS = st.sampled_from(["one", "two"])
_LEASES = st.builds(Lease, _OWNERS, _TIMES, _TIMES)
_ENDINGS = st.builds(ending_of, _IDS, st.integers(0, 45))
_STEPS = st.one_of(
    st.tuples(
        st.just("insert"),
        st.lists(_JOBS, min_size=1, max_size=4, unique_by=lambda j: j.job_id),
        _TIMES,
        _OWNERS,
    ),
    st.tuples(st.just("latest_runs"), st.lists(_OBJECTS, min_size=1, unique=True)),
    st.tuples(st.just("get"), st.lists(_IDS, unique=True)),
    st.tuples(st.just("mark_dispatched"), st.lists(_IDS, unique=True), _NUMBERS, _TIMES),
    st.tuples(st.just("make_all_due"), _TIMES),
    st.tuples(st.just("make_due"), st.lists(_IDS, unique=True), _TIMES),
    st.tuples(st.just("renew"), _LEASES),
    st.tuples(st.just("delete"), _LEASES),
    st.tuples(st.just("abandoned"), _TIMES),
    st.tuples(st.just("take_over"), _LEASES, _TIMES, _TIMES),
    st.tuples(
        st.just("apply"),
        st.sampled_from([Status.FINISHED, Status.CANCELLED]),
        st.lists(_ENDINGS, min_size=1, max_size=4),
        _TIMES,
    ),
    # Without a limit that cuts through jobs that are due at the same moment: their order is nobody's promise.
    st.tuples(st.just("due"), _TIMES, st.just(100)),
)


def _comparable(answer: object) -> object:
    """Jobs that are due at the same moment, and leases of the same moment, may come in any order."""
    if isinstance(answer, list):
        return sorted(answer, key=str)
    return answer


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=25))
async def test_the_fake_answers_as_the_real_one(server: Child, steps: list[tuple[str, ...]]) -> None:
    """Whatever is asked in whatever order."""
    fake = FakeStore()
    async with open_jobs(f"mongodb://{server.address}/test_{uuid.uuid4().hex}") as real:
        for name, *arguments in steps:
            expected = await getattr(fake, name)(*arguments)
            assert _comparable(await getattr(real, name)(*arguments)) == _comparable(expected), (name, arguments)
