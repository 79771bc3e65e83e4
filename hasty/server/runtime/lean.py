"""Imports of libraries without the parts that no service uses: what those parts import costs each process megabytes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class Empty(ModuleType):
    """Has every name, and nothing behind it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def stand_in(name: str, module: ModuleType | None) -> Iterator[None]:
    """Have imports of a module find this one instead, unless it was imported before; with None, it cannot be imported.

    Afterwards, an import gets the real one.
    """
    real = sys.modules.get(name)
    if real is None:
        sys.modules[name] = module  # type: ignore[assignment]  # None is what the import system looks for
    try:
        yield
    finally:
        if real is None:
            del sys.modules[name]
