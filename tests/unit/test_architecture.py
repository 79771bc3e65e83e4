"""docs/architecture.md draws the layers that import-linter checks, and composition roots read from top to bottom."""

import ast
import symtable
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


@pytest.mark.parametrize("root", ["api_server/__main__.py", "api_server/set_up.py", "job_server/__main__.py"])
def test_roots_use_nothing_before_it_is_defined(root: str) -> None:
    """A lambda would hide it: called too early, it would fail while the process runs."""
    source = (ROOT / root).read_text("utf-8")
    [serve] = [node for node in ast.parse(source).body if getattr(node, "name", "") == "serve"]
    [scope] = [each for each in symtable.symtable(source, root, "exec").get_children() if each.get_name() == "serve"]
    defined_in: dict[str, int] = {}
    for node in ast.walk(serve):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined_in[node.id] = min(node.lineno, defined_in.get(node.id, node.lineno))

    early = [
        f"{symbol.get_name()} in line {inner.get_lineno()}"
        for inner in scope.get_children()
        for symbol in inner.get_symbols()
        if symbol.is_free() and inner.get_lineno() < defined_in.get(symbol.get_name(), 0)
    ]

    assert early == []
