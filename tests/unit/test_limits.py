"""Files, classes, functions and the names of tests stay short, unless the reason is beside them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("hasty", "api_server", "job_server", "tests", "benchmarks", "examples")
LINES_MAX: Final = 400
METHODS_MAX: Final = 15
FUNCTION_LINES_MAX: Final = 40
TEST_NAME_MAX: Final = 60
REASON: Final = "long: "
"""A comment with it and the reason, beside the name, is what permits a longer function or class; nothing permits a
longer file."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_keeps_to_the_limits(folder: str) -> None:
    """Split it, or write `# long: ` and the reason beside its name."""
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    found = [
        f"{module.relative_to(ROOT)}: {what}" for module in modules for what in excesses(module.read_text("utf-8"))
    ]
    assert found == []


def test_long_file_is_noticed() -> None:
    """Its last line may be the 400th."""
    assert list(excesses("x = 1\n" * LINES_MAX)) == []
    assert list(excesses("x = 1\n" * (LINES_MAX + 1))) == ["401 lines"]


def test_long_function_needs_its_reason() -> None:
    """Of the word alone, nobody learns anything."""
    body = "    x = 1\n" * FUNCTION_LINES_MAX
    assert list(excesses("def f():\n" + body[:-10])) == []
    assert list(excesses("def f():\n" + body)) == ["function f has 41 lines"]
    assert list(excesses("def f():  # long: \n" + body)) == ["function f has 41 lines"]
    assert list(excesses("def f(\n    x: int,\n) -> None:  # noqa: X - long: a row for each\n" + body)) == []


def test_class_with_many_methods_needs_its_reason() -> None:
    """A property is read like an attribute, and is none of them."""
    methods = "".join(f"    def m{n}(self): ...\n" for n in range(METHODS_MAX))
    one_more = "    async def more(self): ...\n"
    assert list(excesses("class C:\n" + methods + "    @property" + "\n" + one_more)) == []
    assert list(excesses("class C:\n" + methods + one_more)) == ["class C has 16 methods"]
    assert list(excesses("class C:  # long: a method for each fault\n" + methods + one_more)) == []


def test_long_test_name_is_noticed() -> None:
    """It is read in a list of hundreds."""
    name = "test_" + "x" * (TEST_NAME_MAX - len("test_"))
    assert list(excesses(f"def {name}(): ...")) == []
    assert list(excesses(f"async def {name}y(): ...")) == [f"the name {name}y is too long"]


def excesses(source: str) -> Iterator[str]:
    """Say what of a module is over a limit, without a reason."""
    lines = source.splitlines()
    if len(lines) > LINES_MAX:
        yield f"{len(lines)} lines"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or _reason(node, lines):
            continue
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body)
            methods -= sum(_is_property(part) for part in node.body)
            if methods > METHODS_MAX:
                yield f"class {node.name} has {methods} methods"
        else:
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"function {node.name} has {length} lines"
            if node.name.startswith("test_") and len(node.name) > TEST_NAME_MAX:
                yield f"the name {node.name} is too long"


def _reason(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    head = lines[node.lineno - 1 : node.body[0].lineno - 1] or lines[node.lineno - 1 : node.lineno]
    comments = [line.partition("#")[2] for line in head]
    return " ".join(comment.partition(REASON)[2].strip() for comment in comments).strip()


def _is_property(part: ast.stmt) -> bool:
    if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return any("property" in ast.unparse(decorator) for decorator in part.decorator_list)
