"""docs/architecture.md draws the layers that import-linter checks."""

import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("package", "contract"),
    [
        ("api_server", "The api-server's layers"),
        ("job_server", "The job-server's layers"),
        ("hasty.server.messaging", "Messaging's layers"),
    ],
)
def test_drawn_layers_are_those_that_are_checked(package: str, contract: str) -> None:
    """Line by line, from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each["name"] == contract]
    drawing = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition(f"   {package}\n\n")[2]
    drawn = [line.split() for line in drawing.splitlines()[: len(layers) + 1]]
    assert drawn[:-1] == [[name.strip().removeprefix(f"{package}.") for name in layer.split("|")] for layer in layers]
    assert drawn[-1] in ([], ["```"])
