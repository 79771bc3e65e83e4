"""Values that are made for every job, and are quick to make."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["members_of", "quick_dataclass"]

T = TypeVar("T")

# Type checkers know the standard library's decorator by its name alone.
if TYPE_CHECKING:
    from dataclasses import dataclass as quick_dataclass
else:

    def quick_dataclass(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
        """Make a dataclass whose fields type checkers let nobody set, and Python does.

        Setting fields in spite of `frozen` costs a call for each: a `hasty.jobs.Job` takes nine times as long to make.
        """
        return dataclass(slots=slots, unsafe_hash=frozen)


def members_of(kind: type[T]) -> Callable[[T], dict[str, Any]]:
    """Return what gives the fields of a dataclass's values by name, as they are: `asdict` would copy all below them."""
    names = tuple(member.name for member in fields(kind))  # type: ignore[arg-type]  # nothing tells dataclasses apart
    get = attrgetter(*names)
    return lambda value: dict(zip(names, get(value), strict=True))
