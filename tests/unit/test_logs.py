"""Logs: every line in one form, whoever wrote it; nothing lost of an exception, and nothing told of its secrets."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from hasty.server.runtime.logs import configure, get_logger, one_line, worker_name


@pytest.fixture(autouse=True)
def _leave_as_found() -> Iterator[None]:
    """Logging is the whole process's, so what `configure` changed is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was written to stderr since the last call."""

    def read() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return read


@pytest.fixture
def events(lines: Callable[[], list[str]]) -> Callable[[], list[dict[str, object]]]:
    """Likewise, read as JSON."""
    return lambda: [json.loads(line) for line in lines()]


def fail() -> None:
    """Raise, with a secret at hand and another failure behind it."""
    password = "hunter2"  # noqa: S105 - this is the secret that must not be seen
    empty: dict[str, str] = {}
    try:
        empty["first"]
    except KeyError as error:
        raise ValueError(f"second, {len(password)}") from error


def test_a_json_line_says_who_when_and_what(events: Callable[[], list[dict[str, object]]]) -> None:
    """With the fields as they were given."""
    configure("job-server", "info", "json")
    get_logger("job_server.worker").info("job ended", job_id="j-1", seconds=1.5)
    (event,) = events()
    at = datetime.fromisoformat(str(event.pop("timestamp")))
    assert at.tzinfo == UTC
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert event == {
        "event": "job ended",
        "job_id": "j-1",
        "level": "info",
        "logger_name": "job_server.worker",
        "seconds": 1.5,
        "service": "job-server",
        "worker": worker_name(),
    }


def test_a_text_line_says_the_same(lines: Callable[[], list[str]]) -> None:
    """Without colours where there is no terminal."""
    configure("job-server", "info", "text")
    get_logger("job_server.worker").warning("job ended", job_id="j-1")
    (line,) = lines()
    for part in ("[warning", "job ended", "[job_server.worker]", "job_id=j-1", f"worker={worker_name()}"):
        assert part in line
    assert "\x1b" not in line


def test_away_from_a_terminal_lines_are_json(events: Callable[[], list[dict[str, object]]]) -> None:
    """Unless a format was asked for."""
    configure("api-server", "info", None)
    get_logger("api").info("started")
    assert [event["event"] for event in events()] == ["started"]


def test_a_logger_may_be_older_than_the_configuration(events: Callable[[], list[dict[str, object]]]) -> None:
    """Modules make theirs when they are imported."""
    log = get_logger("early")
    configure("api-server", "warning", "json")
    log.info("not told")
    log.warning("told")
    assert [event["event"] for event in events()] == ["told"]


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["own debug", "own info", "own error", "library debug", "library warning", "library error"]),
        ("info", ["own info", "own error", "library warning", "library error"]),
        ("warning", ["own error", "library warning", "library error"]),
        ("error", ["own error", "library error"]),
    ],
)
def test_levels_and_libraries(events: Callable[[], list[dict[str, object]]], level: str, told: list[str]) -> None:
    """Libraries are quieter than we are, and speak in the same form."""
    configure("api-server", level, "json")
    own = get_logger("own")
    own.debug("own debug")
    own.info("own info")
    own.error("own error")
    library = logging.getLogger("nats.aio.client")
    library.debug("library %s", "debug")
    library.warning("library %s", "warning")
    library.error("library %s", "error")
    heard = events()
    assert [event["event"] for event in heard] == told
    assert heard[-1]["logger_name"] == "nats.aio.client"
    assert {event["service"] for event in heard} == {"api-server"}


@pytest.mark.parametrize("ours", [True, False])
def test_an_exception_is_one_json_line_without_secrets(lines: Callable[[], list[str]], *, ours: bool) -> None:
    """Type, message, places and what was behind it; but no values of variables."""
    configure("api-server", "info", "json")
    try:
        fail()
    except ValueError:
        (get_logger("ours") if ours else logging.getLogger("library")).exception("failed")
    (line,) = lines()
    exceptions = json.loads(line)["exception"]
    assert [each["exc_type"] for each in exceptions] == ["ValueError", "KeyError"]
    assert exceptions[0]["frames"][-1]["name"] == "fail"
    assert "hunter2" not in line


def test_an_exception_is_one_text_line(lines: Callable[[], list[str]]) -> None:
    """With the way to it and what was behind it."""
    configure("api-server", "info", "text")
    try:
        fail()
    except ValueError:
        get_logger("ours").exception("failed")
    (line,) = lines()
    assert "ValueError: second, 7 (test_an_exception_is_one_text_line test_logs.py:" in line
    assert "after KeyError: 'first' (fail test_logs.py:" in line


def test_an_exception_is_a_whole_traceback_when_debugging(lines: Callable[[], list[str]]) -> None:
    """Then it is a developer who reads it."""
    configure("api-server", "debug", "text")
    try:
        fail()
    except ValueError:
        get_logger("ours").exception("failed")
    assert "Traceback (most recent call last):" in lines()


def test_a_group_in_one_line_names_all_its_parts() -> None:
    """However deep, and without line breaks of their messages."""
    inner = ExceptionGroup("inner", [ValueError("a\nb"), OSError(2, "gone")])
    told = one_line(ExceptionGroup("outer", [inner, KeyError("k")]))
    for part in ("ValueError: a b", "FileNotFoundError: [Errno 2] gone", "KeyError: 'k'"):
        assert part in told
    assert "\n" not in told
