"""The running project that tests/compose/run has started; without it these tests are not part of a run."""

import os

import pytest

from tests.compose.project import Project

PROJECT = os.environ.get("HASTY_COMPOSE_PROJECT")

# A suite of its own: it needs Docker, and `make test` must not.
collect_ignore_glob = [] if PROJECT else ["test_*.py"]


@pytest.fixture(scope="session")
def project() -> Project:
    """The project under test: two api-servers, three job-servers, short jobs."""
    assert PROJECT is not None
    return Project(PROJECT, int(os.environ["HASTY_HTTP_PORT"]))
