"""What comes of a run: from what a handler returned or raised to the outcome that is reported."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from hasty.errors import Cancelled, Fail, Snooze
from hasty.handlers import BadOutput, Handler, InputRefused
from hasty.jobs import INPUT_MAX, TRACEBACK_MAX, Reason

Outcome = dict[str, Any]

MESSAGE_MAX: Final = 2 * 1024
"""The longest message of an error, in bytes of UTF-8."""

STDOUT_MAX: Final = 1024 * 1024
"""The most bytes that a command may write to standard output; one that writes more is killed."""

_CALLERS: Final = tuple(f"{folder}/" for folder in (Path(__file__).parents[1], Path(asyncio.__file__).parent))
"""Where the code is that calls a handler."""

SNOOZE_MOST_S: Final = 30 * 24 * 3600.0


def finished(output: str) -> Outcome:
    """The handler returned."""
    return {"status": "finished", "output": output}


def failed(reason: Reason, message: str = "", *, kind: str = "", trace: str = "", final: bool = False) -> Outcome:
    """The run failed; no attempt may follow when it is `final`."""
    failure = {
        "reason": reason.value,
        "type": kind[:256],
        "message": _first_bytes(message, MESSAGE_MAX),
        "traceback": _last_bytes(trace, TRACEBACK_MAX),
    }
    return {"status": "failed", "failure": failure, "final": final}


def timed_out(timeout_s: float) -> Outcome:
    """The run's time is over."""
    return failed(Reason.TIMEOUT, f"it took longer than {timeout_s:g} s")


def cancelled() -> Outcome:
    """The run was told to stop, and did."""
    return {"status": "cancelled"}


def of_return(handler: Handler, value: Any) -> Outcome:
    """What a handler's return value comes to."""
    try:
        return finished(handler.dump(value))
    except BadOutput as error:
        return failed(Reason.BAD_OUTPUT, str(error), final=True)


def of_error(error: BaseException) -> Outcome:
    """What an exception of a handler comes to."""
    match error:
        case InputRefused():
            # What the job-server makes of it depends on the versions that took the input.
            return {**failed(Reason.EXCEPTION, str(error), kind="InputRefused", final=True), "status": "refused"}
        case Fail():
            return failed(Reason.FAILED_BY_HANDLER, str(error), kind="Fail", final=True)
        case Snooze():
            return {"status": "snoozed", "delay_s": min(max(float(error.delay_s), 0.0), SNOOZE_MOST_S)}
        case Cancelled():
            return cancelled()
    try:
        message = str(error)
        trace = "".join(traceback.format_exception(type(error), error, _of_the_handler(error.__traceback__)))
    except Exception:  # noqa: BLE001 - an exception's own text is a handler's code as well
        message, trace = "its text cannot be made", ""
    return failed(Reason.EXCEPTION, message, kind=type(error).__qualname__, trace=trace)


def _of_the_handler(trace: TracebackType | None) -> TracebackType | None:
    """Leave out what called the handler; all of it stays where nothing else is left."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_CALLERS):
        first = first.tb_next
    return first or trace


def timed(outcome: Outcome, started_at: float, now: Callable[[], float] = time.time) -> Outcome:
    """Add the times to an outcome, in Unix seconds."""
    return {**outcome, "started_at": started_at, "ended_at": now()}


def of_command(code: int, out: bytes, err: bytes) -> Outcome:
    """What a command's exit code, standard output and standard error come to.

    Args:
        code: its exit code; less than 0 for a signal.
        out: the bytes of its standard output; of a longer one `STDOUT_MAX` and one more are enough.
        err: the last bytes of its standard error.
    """
    text = err.decode("utf-8", "replace").strip()
    if len(out) > STDOUT_MAX:
        # Whatever the exit code: it depends on whether it was killed before it ended by itself.
        message = f"it wrote more than {STDOUT_MAX} bytes (1 MiB) to standard output, and was stopped"
        return failed(Reason.BAD_OUTPUT, message, trace=text, final=True)
    if code == EXIT_FAIL:
        return failed(Reason.FAILED_BY_HANDLER, text or "exit code 65", kind="Fail", final=True)
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return failed(Reason.EXCEPTION, how, kind="CommandFailed", trace=text)
    try:
        value = json.loads(out or b"null", parse_constant=_refuse_constant)
        output = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(output.encode()) > INPUT_MAX:
            return failed(Reason.BAD_OUTPUT, f"the output has more than {INPUT_MAX} bytes of JSON", final=True)
        return finished(output)
    except (ValueError, RecursionError) as error:
        return failed(Reason.BAD_OUTPUT, f"the standard output is not JSON: {error}", final=True)


EXIT_FAIL: Final = 65
"""A command that exits with it raises `Fail`: EX_DATAERR of sysexits.h."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _first_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _last_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[-most:].decode("utf-8", "ignore")
