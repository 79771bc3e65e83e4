"""The map in CONTRIBUTING.md leads to what exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NAMED: Final = re.compile(r"`([^`]+)`")
SERVICES: Final = ("api_server", "job_server")
TASKS: Final = (
    "change the cooldown's rule",
    "log a new field when a job ends",
    "answer 429 instead of 503 when overloaded",
    "add a reason to `why`",
    "add a setting",
    "add a filter to the list",
    "change the jitter of these waits",
    "add a metric",
    "change what the local stack starts",
    "add a fault to the chaos runs",
)
"""What somebody who has never seen the project is asked to find by the map alone."""


def rows() -> Iterator[tuple[str, str]]:
    """Yield the tasks of the map, and where each is done."""
    section = (
        (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Where to change what")[2].partition("\n## ")[0]
    )
    for line in section.splitlines():
        task, _, where = line.strip("| ").partition(" | ")
        if where and not task.startswith("---") and task != "task":
            yield task, where


@pytest.mark.parametrize("task", TASKS)
def test_task_is_in_the_map(task: str) -> None:
    """Each with the file in which it is done."""
    assert re.search(r"`[\w/.-]+\.py`|`tests/chaos/faults/`", dict(rows())[task])


@pytest.mark.parametrize(("task", "where"), list(rows()), ids=[task for task, _ in rows()])
def test_map_names_files_and_names_that_exist(task: str, where: str) -> None:
    """A name stands in one of the row's files; a file of "the service" exists in both."""
    named = NAMED.findall(where)
    texts = []
    missing = []
    for path in [name for name in named if _is_path(name)]:
        found = [ROOT / folder / path for folder in (SERVICES if _in_each_service(path) else (".",))]
        missing += [str(file.relative_to(ROOT)) for file in found if not file.exists()]
        texts += [file.read_text("utf-8") for file in found if file.is_file()]
        texts += [part.read_text("utf-8") for file in found if file.is_dir() for part in file.rglob("*.py")]
    missing += [name for name in named if not _is_path(name) and not any(name in text for text in texts)]
    assert missing == [], task


def _is_path(name: str) -> bool:
    return "/" in name or bool(re.search(r"\.(py|md|yml)$", name))


def _in_each_service(path: str) -> bool:
    return path in {"settings.py", "metrics.py", "lifecycle.py", "__main__.py"}
