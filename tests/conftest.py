"""What all tests share: which of them run, and in which order they are handed out."""

import os

import pytest

HASTY_URL = os.environ.get("HASTY_URL")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of this suite."""
    config.addinivalue_line(
        "markers", "own_stack: starts, stops or looks into processes, so it needs a stack of its own, not HASTY_URL"
    )
    config.addinivalue_line(
        "markers", "starts_first: takes long, so it must not be what everybody waits for at the end"
    )


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
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)
