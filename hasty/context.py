"""What a handler may know of its run, and how it speaks while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hasty.errors import Cancelled
from hasty.jobs import NOTE_MAX


@dataclass
class Context:
    """A run of a job, as its handler sees it.

    A handler gets it as the parameter that is annotated with this class, whatever its name.

    `attempt` counts what the retry policy counts; `run` counts how often this turn was, or may have been, started, so
    more than 1 says that an earlier run may have done part of the work. `idempotency_key` is the job's id, the same in
    every run. `deadline` is when the run's time is over, in UTC.
    """

    job_id: str
    kind: str
    attempt: int
    run: int
    deadline: datetime
    labels: tuple[str, ...] = ()
    report: Callable[[float, str], None] = field(default=lambda _done, _note: None, repr=False)
    is_stopping: Callable[[], bool] = field(default=lambda: False, repr=False)

    @property
    def idempotency_key(self) -> str:
        """The job's id: what to give to others, so that they do a thing once however often it is asked for."""
        return self.job_id

    @property
    def cancelled(self) -> bool:
        """Whether the job is to stop; asking does not raise."""
        return self.is_stopping()

    def progress(self, done: float, note: str = "") -> None:
        """Tell how far the run is: `done` from 0 to 1, with a note of up to 1 KiB.

        Raises:
            Cancelled: when the job is to stop.
        """
        self.check()
        done = float(done)
        if not 0 <= done <= 1:
            raise ValueError(f"done is {done:g}: it must be from 0 to 1")
        self.report(done, note.encode("utf-8", "replace")[:NOTE_MAX].decode("utf-8", "ignore"))

    def check(self) -> None:
        """Do nothing, unless the job is to stop.

        Raises:
            Cancelled: when it is.
        """
        if self.is_stopping():
            raise Cancelled

    @property
    def log(self) -> Any:
        """A logger that is bound to the job: structlog's, where it is installed, else one of the standard library's."""
        facts = {"job_id": self.job_id, "kind": self.kind, "attempt": self.attempt}
        try:
            import structlog  # noqa: PLC0415 - it need not be installed
        except ImportError:
            return _Bound(logging.getLogger(f"hasty.{self.kind}"), facts)
        return structlog.get_logger(f"hasty.{self.kind}").bind(**facts)


class _Bound(logging.LoggerAdapter[logging.Logger]):
    """Takes facts by keyword, as structlog's loggers do."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """Write the facts behind the message."""
        own = {name: kwargs.pop(name) for name in list(kwargs) if name not in {"exc_info", "stack_info", "stacklevel"}}
        facts = {**(self.extra or {}), **own}
        return f"{msg} " + " ".join(f"{name}={value!r}" for name, value in facts.items()), kwargs
