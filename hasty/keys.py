"""The key of a job, made of its input by the template of its kind."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

from hasty.jobs import object_id_problem


class KeyProblem(ValueError):
    """An input gives no key; `field` names the member of the input that is to blame, if it is a single one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def fields_of(template: str) -> list[str]:
    """Return the names of the members that a template needs, as in ``"{user}/{url}"``.

    Raises:
        ValueError: when it is no template of plain names, or has none.
    """
    names = list(_names(template))
    if not names:
        raise ValueError(f"the key {template!r} names no parameter: write it as in '{{url}}'")
    return names


def key_of(template: str, values: Mapping[str, object]) -> str:
    """Return the key of an input: 1 to 256 characters.

    Raises:
        KeyProblem: when a member is missing or neither a text nor a whole number, or the key is not one.
    """
    found: dict[str, str] = {}
    for name in fields_of(template):
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise KeyProblem(f"{name} is part of the key: it must be a text or a whole number", name)
        found[name] = str(value)
    key = template.format(**found)
    if problem := object_id_problem(key):
        only = next(iter(found)) if len(found) == 1 else None
        raise KeyProblem(problem.replace("object_id", "the key"), only)
    return key


def _names(template: str) -> Iterator[str]:
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"the key {template!r} may only hold names of parameters in braces, as in '{{url}}'")
        yield name
