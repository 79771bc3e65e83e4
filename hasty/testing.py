"""Run a handler in a test: with its checks and its policy, without any server.

outcome = hasty.testing.run(resize, {"url": "u", "width": 9999})
assert outcome.status == "failed"
assert outcome.error.reason == "failed_by_handler"
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hasty.context import Context
from hasty.declare import DECLARED, Command, Declared
from hasty.errors import HandlerError
from hasty.executor import outcomes
from hasty.handlers import Handler, InputRefused, handler_of
from hasty.jobs import Failure, Reason, Status, Way
from hasty.retry import Retry, delay_s

__all__ = ["InputRefused", "Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    `status` is ``finished`` with `output`, ``failed`` with `error`, ``cancelled``, or ``again``: the job would be run
    again after `retry_in_s` seconds, because of `error` or because the handler snoozed. `progress` holds what the
    handler told of it, in order.
    """

    status: str
    output: Any = None
    error: Failure | None = None
    retry_in_s: float | None = None
    progress: list[tuple[float, str]] = field(default_factory=list)


def run(
    handler: Callable[..., Any] | Command,
    values: Mapping[str, Any] | None = None,
    /,
    *,
    attempt: int = 1,
    run: int = 1,
    labels: Sequence[str] = (),
    cancelled: bool = False,
    chance: Callable[[], float] = lambda: 1.0,
) -> Outcome:
    """Run a handler with an input, as the first job-server that gets the job would.

    It runs in this process, also where it asks for one of its own; its timeout does not stop it, but counts. With
    `cancelled`, `ctx` says that the job is to stop. `chance` gives numbers from 0 to 1, for the wait of a retry.

    Raises:
        InputRefused: when the input does not fit the handler: then there would be no job.
        HandlerError: when this is no handler, or one that cannot be used.
    """
    made = handler_of(_declared(handler))
    text = json.dumps(values or {}, allow_nan=False)
    progress: list[tuple[float, str]] = []
    timeout_s = made.kind.timeout_s
    context = Context(
        job_id=str(uuid.uuid4()),
        kind=made.kind.name,
        attempt=attempt,
        run=run,
        deadline=datetime.fromtimestamp(time.time() + timeout_s, UTC),
        labels=tuple(labels),
        report=lambda done, note: progress.append((done, note)),
        is_stopping=lambda: cancelled,
    )
    arguments = made.parse(text)
    began = time.monotonic()
    outcome = _command(made, text, context) if made.kind.way is Way.COMMAND else _called(made, arguments, context)
    if time.monotonic() - began > timeout_s:
        outcome = outcomes.timed_out(timeout_s)
    return _concluded(made, outcome, attempt, progress, chance)


def _declared(handler: Callable[..., Any] | Command) -> Declared:
    for one in DECLARED:
        if one.target is handler:
            return one
    raise HandlerError(f"{handler!r} is no handler: write @job above the function")


def _called(handler: Handler, arguments: Mapping[str, Any], context: Context) -> outcomes.Outcome:
    try:
        value = handler.call(arguments, context)
        if handler.kind.way is Way.ASYNC or asyncio.iscoroutine(value):
            value = _awaited(value)
        return outcomes.of_return(handler, value)
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # noqa: BLE001 - a handler may raise anything
        return outcomes.of_error(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return outcomes.of_error(error)


def _awaited(coroutine: Any) -> Any:
    """Run a coroutine to its end, on a loop in a thread of its own: this may be called from within another loop."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it was asked for
            errors.append(error)

    thread = threading.Thread(target=work, name="handler")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _command(handler: Handler, text: str, context: Context) -> outcomes.Outcome:
    environment = {
        **os.environ,
        "HASTY_JOB_ID": context.job_id,
        "HASTY_KIND": context.kind,
        "HASTY_ATTEMPT": str(context.attempt),
        "HASTY_RUN": str(context.run),
    }
    try:
        done = subprocess.run(  # noqa: S603 - the command is the handler's own
            handler.argv, input=text.encode() + b"\n", capture_output=True, check=False, env=environment
        )
    except OSError as error:
        return outcomes.failed(Reason.EXCEPTION, f"the process cannot be started: {error}", kind=type(error).__name__)
    return outcomes.of_command(done.returncode, done.stdout, done.stderr)


def _concluded(
    handler: Handler,
    outcome: outcomes.Outcome,
    attempt: int,
    progress: list[tuple[float, str]],
    chance: Callable[[], float],
) -> Outcome:
    status = outcome["status"]
    failure = outcome.get("failure")
    error = None if failure is None else Failure(**{**failure, "reason": Reason(failure["reason"])})
    if status == "snoozed":
        return Outcome("again", retry_in_s=outcome["delay_s"], progress=progress)
    if status == "failed" and not outcome["final"] and attempt < handler.kind.attempts:
        policy = Retry(handler.kind.attempts, handler.kind.first_s, handler.kind.most_s)
        return Outcome("again", error=error, retry_in_s=delay_s(policy, attempt, chance), progress=progress)
    if status == "finished":
        return Outcome(Status.FINISHED.value, json.loads(outcome["output"]), progress=progress)
    return Outcome(status, error=error, progress=progress)
