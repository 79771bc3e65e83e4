"""What all tests share: which of them run, in which order, and which of them go to one worker."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

HASTY_URL = os.environ.get("HASTY_URL")
# These tests leave the system as it was, so all of them can have the same one.
SHARED_SYSTEM = "tests/e2e/shared_system/"
LONG_FOLDERS = (SHARED_SYSTEM, "tests/faults/")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of this suite, and take slowness for no failure: the machine may be busy with other tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As when a shell started these tests in the background: everything they start would be deaf to Ctrl-C as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy machine")
    config.addinivalue_line(
        "markers", "own_stack: starts, stops or looks into processes, so it needs a stack of its own, not HASTY_URL"
    )
    config.addinivalue_line("markers", "starts_first: takes long, so nobody should wait for it alone at the end")


def pytest_report_header() -> str | None:
    """Say aloud that a smaller suite was chosen."""
    if HASTY_URL is None:
        return None
    return f"HASTY_URL={HASTY_URL}: that system is tested; tests marked own_stack are not part of this run"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the suite, and put the long tests to the front of the shuffled rest."""
    if HASTY_URL is not None:
        left_out = [item for item in items if item.get_closest_marker("own_stack")]
        items[:] = [item for item in items if not item.get_closest_marker("own_stack")]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: not _starts_first(item))


def _starts_first(item: pytest.Item) -> bool:
    return item.nodeid.startswith(LONG_FOLDERS) or item.get_closest_marker("starts_first") is not None


class _OneWorkerPerSystem(LoadFileScheduling):  # type: ignore[misc]  # it ships no types
    """Hands out whole files, because the tests of a file share what they start; and one folder as if it were a file."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARED_SYSTEM if nodeid.startswith(SHARED_SYSTEM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """Have `--dist loadfile` do that, in the order of the collection."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return _OneWorkerPerSystem(config, log)
