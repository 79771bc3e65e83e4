"""Inputs on the command line: `name=value`, each value read by the kind's schema."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final


class ValueProblem(ValueError):
    """An input on the command line cannot be read; the text says which member, and what it must be."""


def read_input(schema: Mapping[str, Any], values: Sequence[str], text: str | None = None) -> dict[str, Any]:
    """Read an input: the JSON object in `text`, if there is one, with `values` in the form ``name=value`` over it.

    A value is text where the schema says so, and JSON otherwise; what is no JSON there is text as well, where the
    schema allows one.

    Raises:
        ValueProblem: when a value has no name, or is not what the schema says.
    """
    found: dict[str, Any] = {}
    if text is not None:
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ValueProblem(f"the input is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise ValueProblem("the input must be a JSON object")
        found.update(given)
    for value in values:
        name, separator, content = value.partition("=")
        if not separator or not name:
            raise ValueProblem(f"{value!r} has no name: write name=value")
        found[name] = _read(name, content, schema)
    return found


def read_file(file: str) -> str:
    """Return the text of a file, or of standard input, which is -.

    Raises:
        ValueProblem: when it cannot be read.
    """
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueProblem(f"--input {file} cannot be read: {error}") from None


def _read(name: str, content: str, schema: Mapping[str, Any]) -> Any:
    types = _types(schema.get("properties", {}).get(name, {}), schema)
    if types == {"string"}:
        return content
    try:
        value = json.loads(content)
    except ValueError:
        if not types or "string" in types:
            return content
        expected = " or ".join(sorted(types))
        raise ValueProblem(f"{name} is {content!r}: it must be {expected}") from None
    if types and "string" in types and not types & _types_of(value):
        return content
    return value


def _types(part: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that a part of a schema allows; nothing when it does not say."""
    if reference := part.get("$ref"):
        target: Any = schema
        for step in str(reference).removeprefix("#/").split("/"):
            target = target.get(step, {}) if isinstance(target, dict) else {}
        return _types(target, schema)
    if options := part.get("anyOf") or part.get("oneOf"):
        return set().union(*(_types(option, schema) for option in options))
    if "enum" in part or "const" in part:
        return set().union(*(_types_of(value) for value in part.get("enum", [part.get("const")])))
    kind = part.get("type")
    return set(kind) if isinstance(kind, list) else {kind} if isinstance(kind, str) else set()


def _types_of(value: Any) -> set[str]:
    return _TYPES[type(value)]


_TYPES: Final[Mapping[type, set[str]]] = {
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    str: {"string"},
    list: {"array"},
    dict: {"object"},
    type(None): {"null"},
}
