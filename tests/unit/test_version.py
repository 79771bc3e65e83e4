"""The version stands in one place, and what else names it agrees."""

import re

import hasty
from hasty.server.local_stack.resources import CODE


def test_changelog_begins_with_this_version() -> None:
    """Released or not."""
    first = re.search(r"^## (\S+) - ", (CODE / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == hasty.__version__


def test_images_are_tagged_with_this_version() -> None:
    """Its minor one: a fix replaces an image."""
    folder = CODE / "examples" / "container"
    files = (CODE / "docker-compose.yml", folder / "docker-compose.yml", folder / "Dockerfile")
    for file in files:
        tags = set(re.findall(r"\bHASTY_TAG(?::-|=)([\d.]+)", file.read_text()))
        assert tags == {hasty.__version__.rpartition(".")[0]}, file
