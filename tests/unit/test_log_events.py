"""docs/logs.md describes every event that the code logs, with its level, and nothing else."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
ROW: Final = re.compile(r"\| `(?P<event>[^`]+)` \| (?P<levels>[a-z, ]*?) ?\|")


def test_docs_list_every_log_event_with_its_level() -> None:
    """An operator looks an event up by its name: it must be there, and what is there must exist."""
    logged: defaultdict[str, set[str]] = defaultdict(set)
    for package in ("api_server", "job_server", "hasty"):
        for module in (ROOT / package).rglob("*.py"):
            for event, level in events_of(ast.parse(module.read_text(encoding="utf-8"))):
                logged[event].add(level)
    # nginx writes its only line by a format of its own.
    nginx = (ROOT / "nginx" / "hasty.conf.template").read_text(encoding="utf-8")
    logged |= {event: {""} for event in re.findall(r'"event":"([^"]+)"', nginx)}

    rows = ROW.finditer((ROOT / "docs" / "logs.md").read_text(encoding="utf-8"))
    documented = {row["event"]: set(row["levels"].split(", ")) for row in rows}

    assert documented == logged


def test_log_event_that_is_no_literal_is_noticed() -> None:
    """Such an event could not be looked up."""
    with pytest.raises(ValueError, match="line 2"):
        list(events_of(ast.parse("\nlog.info(text)")))


def test_log_event_that_is_a_sentence_is_noticed() -> None:
    """Names are snake_case, whatever they are made of."""
    with pytest.raises(ValueError, match="it went wrong"):
        list(events_of(ast.parse('self._log.error("it_went_well" if fine else "it went wrong")')))


def events_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the events that a module logs by `log` or `self._log`, with the level of each."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS):
            continue
        if ast.unparse(call.func.value) not in {"log", "self._log"}:
            continue
        event = call.args[0] if call.args else call
        for name in (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,):
            if not (isinstance(name, ast.Constant) and re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", str(name.value))):
                raise ValueError(f"line {call.lineno}: {ast.unparse(name)} is not a literal in snake_case")
            yield str(name.value), LEVELS[call.func.attr]
