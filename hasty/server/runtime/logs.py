"""Logs: one line for each event on stderr, as text for people or as JSON for machines, those of libraries included."""

import logging
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import cast

from hasty.server.runtime.lean import stand_in

# Where they are installed, structlog imports rich for tracebacks that are never drawn, 4.6 MB, and greenlet, 1.1 MB.
with stand_in("rich", None), stand_in("greenlet", None):
    import structlog
    from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor, WrappedLogger

# What get_logger gives: `log.info("job ended", job_id=..., status=...)`; below the level a call costs next to nothing.
Logger = FilteringBoundLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def get_logger(name: str) -> Logger:
    """A logger that names its module on every line; may be made before `configure` is called."""
    return cast("Logger", structlog.get_logger(logger_name=name))


def configure(service: str, level: str, fmt: str | None) -> None:
    """Make every line of this process leave through one renderer, ours and those of the libraries.

    `level` is debug, info, warning or error; libraries stay at warning or above unless it is debug. `fmt` is text or
    json; None means text on a terminal and json elsewhere. Every line carries `service` and `worker` (host and pid).
    """
    as_text = sys.stderr.isatty() if fmt is None else fmt == "text"
    own_level = LEVELS[level]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identify(service),
    ]
    render = _text(verbose=level == "debug") if as_text else _json()
    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(own_level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(logging.DEBUG if level == "debug" else max(own_level, logging.WARNING), common, render)


def worker_name() -> str:
    """The name of this process among all: host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def one_line(error: BaseException) -> str:
    """An exception and the way to it in one line: `ValueError: no (run app.py:10 > read store.py:20)`."""
    frames = traceback.extract_tb(error.__traceback__)
    way = " > ".join(f"{frame.name} {os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)  # noqa: PTH119
    line = " ".join(f"{type(error).__name__}: {error}".split()) + (f" ({way})" if way else "")
    if isinstance(error, BaseExceptionGroup):
        line += f" [{'; '.join(one_line(part) for part in error.exceptions)}]"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return line if before is None else f"{line} after {one_line(before)}"


def _configure_libraries(level: int, common: Sequence[Processor], render: Sequence[Processor]) -> None:
    """Send what the standard library's loggers get (uvicorn, nats, pymongo, asyncio, warnings) the same way."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_library, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def _identify(service: str) -> Processor:
    worker = worker_name()

    def identify(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["worker"] = worker
        return event

    return identify


def _name_library(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["logger_name"] = event["_record"].name
    return event


def _json() -> list[Processor]:
    # Without the values of local variables: they hold addresses with passwords.
    transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(transform), structlog.processors.JSONRenderer()]


def _text(*, verbose: bool) -> list[Processor]:
    """Text for people: an exception is part of its line, or a whole traceback below it when verbose."""
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [console] if verbose else [structlog.processors.ExceptionRenderer(_one_line_of), _keep_in_line, console]


def _one_line_of(exc_info: ExcInfo) -> str:
    return one_line(exc_info[1])


def _keep_in_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if "exception" in event:
        event["because"] = event.pop("exception")
    return event
