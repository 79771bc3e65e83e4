"""Values that are made for every job, and are quick to make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["quick_dataclass"]

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
