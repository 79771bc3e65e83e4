"""Settings: what is right is taken, what is wrong is told in one line each, and no password is ever shown."""

import os
import re
from pathlib import Path
from typing import Annotated, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from api_server.settings import Settings as ApiSettings
from hasty.server.runtime.settings import (
    KNOWN,
    RENAMED,
    ProcessSettings,
    Seconds,
    UrlOf,
    load,
    variable_of,
    without_credentials,
)
from job_server.settings import Settings as JobSettings


class Settings(ProcessSettings):
    """A service's settings, with one of each kind."""

    bind_port: int = Field(default=9090, ge=0, le=65535)
    api_mongo_url: Annotated[str, UrlOf(("mongodb", "mongodb+srv"))] = "mongodb://127.0.0.1:27017"
    job_sleep_min_s: Seconds = 15
    job_sleep_max_s: Seconds = 45
    rescue: bool = True
    job_sleep_mid_s: Seconds | None = None
    spare_url: Annotated[str, UrlOf(("nats",))] | None = None

    @model_validator(mode="after")
    def _sleep_has_a_range(self) -> Self:
        if self.job_sleep_min_s > self.job_sleep_max_s:
            raise ValueError("HASTY_JOB_SLEEP_MIN_S must not be above HASTY_JOB_SLEEP_MAX_S")
        return self


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with an environment that says nothing to Hasty."""
    for name in list(os.environ):
        if name.upper().startswith("HASTY_"):
            monkeypatch.delenv(name)


def refusal(capsys: pytest.CaptureFixture[str], cls: type[ProcessSettings] = Settings) -> list[str]:
    """Load and expect a refusal: its lines."""
    with pytest.raises(SystemExit) as leaving:
        load(cls)
    assert leaving.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_without_any_variable_the_defaults_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """And there is nothing to say about it."""
    settings = load(Settings)
    assert (settings.nats_url, settings.ack_wait_s, settings.log_format) == ("nats://127.0.0.1:4222", 50, None)
    assert capsys.readouterr().err == ""


def test_variables_are_taken_and_empty_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose hands on a variable that is not set as an empty one."""
    monkeypatch.setenv("HASTY_ACK_WAIT_S", "2.5")
    monkeypatch.setenv("HASTY_NATS_URL", "nats://a:4222,nats://b:4222")
    monkeypatch.setenv("HASTY_LOG_FORMAT", "")
    settings = load(Settings)
    assert (settings.ack_wait_s, settings.log_format) == (2.5, None)
    assert settings.nats_url == "nats://a:4222,nats://b:4222"


def test_drain_delay_is_read_and_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not at all by default: only a proxy that finds api-servers by name needs it."""
    assert load(ApiSettings).drain_delay_s == 0
    monkeypatch.setenv("HASTY_DRAIN_DELAY_S", "2.5")
    assert load(ApiSettings).drain_delay_s == 2.5
    for value in ("-1", "61", "nan"):
        monkeypatch.setenv("HASTY_DRAIN_DELAY_S", value)
        rule = "it must be a number of seconds from 0 to 60"
        assert refusal(capsys, ApiSettings) == [f"HASTY_DRAIN_DELAY_S is '{value}': {rule}"]


def test_old_name_of_a_setting_works_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where both names are set, the new one counts; a service without the setting says nothing."""
    monkeypatch.setenv("HASTY_LINGER_S", "2.5")
    assert load(ApiSettings).drain_delay_s == 2.5
    warning = (
        "HASTY_LINGER_S is now called HASTY_DRAIN_DELAY_S: the old name works in this version only, please rename it"
    )
    assert capsys.readouterr().err.splitlines() == [warning]

    monkeypatch.setenv("HASTY_DRAIN_DELAY_S", "3")
    assert load(ApiSettings).drain_delay_s == 3
    warning = "HASTY_LINGER_S is ignored: its new name HASTY_DRAIN_DELAY_S is set as well; remove HASTY_LINGER_S"
    assert capsys.readouterr().err.splitlines() == [warning]

    load(Settings)
    assert capsys.readouterr().err == ""


def test_replicas_are_one_three_or_five(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One by default; any other number, or none at all, is refused with the choices."""
    assert load(ApiSettings).nats_replicas == 1
    for value in ("1", "3", "5"):
        monkeypatch.setenv("HASTY_NATS_REPLICAS", value)
        assert load(ApiSettings).nats_replicas == int(value)
    for value in ("0", "2", "4", "7", "-3", "3.0", "three"):
        monkeypatch.setenv("HASTY_NATS_REPLICAS", value)
        [line] = refusal(capsys, ApiSettings)
        assert line.startswith("HASTY_NATS_REPLICAS is ")
        assert line.endswith(": it must be one of 1, 3, 5")
        assert value in line


def test_settings_cannot_be_changed() -> None:
    """Whoever holds them may rely on them."""
    with pytest.raises(ValidationError):
        load(Settings).ack_wait_s = 1  # type: ignore[misc] # mypy knows, too


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("HASTY_ACK_WAIT_S", "abc", "is 'abc': it must be a number of seconds above 0"),
        ("HASTY_ACK_WAIT_S", "0", "is '0': it must be a number of seconds above 0"),
        ("HASTY_SILENCE_S", "inf", "is 'inf': it must be a number of seconds above 0"),
        ("HASTY_SHUTDOWN_GRACE_S", "nan", "is 'nan': it must be a number of seconds not below 0"),
        ("HASTY_BIND_PORT", "65536", "is '65536': it must be a whole number from 0 to 65535"),
        ("HASTY_BIND_PORT", "9.5", "is '9.5': it must be a whole number from 0 to 65535"),
        ("HASTY_LOG_LEVEL", "loud", "is 'loud': it must be one of debug, info, warning, error"),
        ("HASTY_LOG_FORMAT", "xml", "is 'xml': it must be one of text, json"),
        ("HASTY_RESCUE", "perhaps", "is 'perhaps': it must be true or false"),
        ("HASTY_JOB_SLEEP_MID_S", "-1", "is '-1': it must be a number of seconds above 0"),
        ("HASTY_SPARE_URL", "nats://", "is 'nats://': it must be a URL that starts with nats://"),
        (
            "HASTY_API_MONGO_URL",
            "localhost",
            "is 'localhost': it must be a URL that starts with mongodb:// or mongodb+srv://",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_value_and_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, line: str
) -> None:
    """And exit code 2."""
    monkeypatch.setenv(variable, value)
    assert refusal(capsys) == [f"{variable} {line}"]


def test_all_problems_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nobody has to try again for each of them."""
    monkeypatch.setenv("HASTY_ACK_WAIT_S", "soon")
    monkeypatch.setenv("HASTY_BIND_PORT", "http\nand more")
    monkeypatch.setenv("HASTY_API_MONGO_URL_FILE", str(tmp_path / "missing"))
    lines = refusal(capsys)
    assert sorted(line.split()[0] for line in lines) == [
        "HASTY_ACK_WAIT_S",
        "HASTY_API_MONGO_URL_FILE",
        "HASTY_BIND_PORT",
    ]


def test_what_has_no_default_must_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    """The line says what with."""
    lines = refusal(capsys, ProcessSettings)
    assert lines == ["HASTY_BIND_PORT is not set: it must be a whole number from 0 to 65535"]


def test_a_rule_between_settings_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its words are the line."""
    monkeypatch.setenv("HASTY_JOB_SLEEP_MIN_S", "60")
    assert refusal(capsys) == ["HASTY_JOB_SLEEP_MIN_S must not be above HASTY_JOB_SLEEP_MAX_S"]


def test_a_wrong_url_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever in a list it stands."""
    monkeypatch.setenv("HASTY_NATS_URL", "http://a:4222,http://user:pa$$@word@b:4222")
    (line,) = refusal(capsys)
    assert line.startswith("HASTY_NATS_URL is 'http://***@b:4222': it must be a URL that starts with nats://")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://a:4222,nats://b:4222", "nats://a:4222,nats://b:4222"),
        ("mongodb://u:p@a,b:27018/hasty?tls=true&password=p", "mongodb://***@a,b:27018/hasty"),
        ("mongodb://a/?password=p@q", "mongodb://***"),
        ("u:p@host", "***@host"),
        ("MONGODB://u:p@a", "MONGODB://***@a"),
    ],
)
def test_urls_are_shown_without_credentials(url: str, shown: str) -> None:
    """Hosts, ports and database stay: they are what one looks for."""
    assert without_credentials(url) == shown


@given(password=st.text(st.characters(codec="utf-8") | st.sampled_from("@?,:/\n"), min_size=1))
def test_no_password_survives(password: str) -> None:
    """Whatever characters it has, escaped or not."""
    assert without_credentials(f"mongodb://user:{password}@host") in {"mongodb://***@host", "mongodb://***"}


def test_a_url_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As secrets of containers do, with the line end an editor leaves."""
    secret = tmp_path / "nats_url"
    secret.write_text("nats://user:secret@nats:4222\n")
    monkeypatch.setenv("HASTY_NATS_URL_FILE", str(secret))
    monkeypatch.setenv("HASTY_NATS_URL", "")
    assert load(Settings).nats_url == "nats://user:secret@nats:4222"


def test_a_url_from_a_file_is_checked_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file is not a URL."""
    monkeypatch.setenv("HASTY_NATS_URL_FILE", os.devnull)
    (line,) = refusal(capsys)
    assert line.startswith("HASTY_NATS_URL is '': it must be a URL that starts with nats://")


def test_a_url_and_its_file_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """There is no telling which was meant."""
    monkeypatch.setenv("HASTY_NATS_URL", "nats://a:4222")
    monkeypatch.setenv("HASTY_NATS_URL_FILE", str(tmp_path / "nats_url"))
    assert refusal(capsys) == ["HASTY_NATS_URL and HASTY_NATS_URL_FILE are both set: set one of them"]


def test_a_file_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the reason."""
    not_text = tmp_path / "url"
    not_text.write_bytes(b"\xff")
    monkeypatch.setenv("HASTY_NATS_URL_FILE", str(tmp_path))
    monkeypatch.setenv("HASTY_API_MONGO_URL_FILE", str(not_text))
    assert refusal(capsys) == [
        f"HASTY_NATS_URL_FILE is {str(tmp_path)!r}: it must name a file that can be read (Is a directory)",
        f"HASTY_API_MONGO_URL_FILE is {str(not_text)!r}: it must name a file that can be read (not UTF-8)",
    ]


@pytest.mark.parametrize(
    ("settings", "variables", "line"),
    [
        (
            ApiSettings,
            {"HASTY_OVERDUE_S": "1"},
            (
                "HASTY_OVERDUE_S is 1: it should be above HASTY_ACK_WAIT_S, which is 50, or jobs are dispatched again "
                "while the broker still waits for their workers"
            ),
        ),
        (
            JobSettings,
            {"HASTY_JOB_TIMEOUT_S": "2.5", "HASTY_JOB_SLEEP_MIN_S": "2.5"},
            (
                "HASTY_JOB_TIMEOUT_S is 2.5: it should be above HASTY_JOB_SLEEP_MIN_S, which is 2.5, or every job is "
                "cancelled"
            ),
        ),
    ],
)
def test_valid_but_useless_settings_are_warned_about(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: type[ProcessSettings],
    variables: dict[str, str],
    line: str,
) -> None:
    """They hold, because somebody may want to see what happens."""
    load(settings)
    assert capsys.readouterr().err == ""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    load(settings)
    assert capsys.readouterr().err == f"{line}\n"


def test_a_mistyped_variable_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be ignored in silence otherwise; the process starts all the same."""
    monkeypatch.setenv("HASTY_ACK_WAIT", "3")
    monkeypatch.setenv("HASTY_NATS_URLS_FILE", "x")
    monkeypatch.setenv("HASTY_WEATHER", "fine")
    assert load(Settings).ack_wait_s == 50
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "HASTY_ACK_WAIT is not a setting of Hasty and is ignored: did you mean HASTY_ACK_WAIT_S?"
    assert second.endswith("did you mean HASTY_NATS_URL_FILE?")
    assert third.startswith("HASTY_WEATHER is not a setting of Hasty and is ignored: did you mean HASTY_")


@pytest.mark.parametrize(
    "variable",
    [
        "HASTY_HTTP_PORT",  # another part's
        "HASTY_JOB_MONGO_URL",
        "HASTY_JOB_MONGO_URL_FILE",
        "HASTY_TAG",  # compose's own
        "HASTY_JOB_SLEEP_MID_S",  # only this class has it
        "ACK_WAIT",  # not ours
    ],
)
def test_other_variables_are_no_mistakes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    """Each part of Hasty sees the variables of the others."""
    monkeypatch.setenv(variable, "1")
    load(Settings)
    assert capsys.readouterr().err == ""


def test_no_setting_is_taken_for_a_typing_error() -> None:
    """All parts run in one environment, so each knows the settings of the others."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8").partition("## Settings")[2]
    told = set(re.findall(r"`(HASTY_\w+)`", readme.partition("\n## ")[0]))
    read = {variable_of(field) for cls in (ApiSettings, JobSettings) for field in cls.model_fields}
    assert (told | read) - {"HASTY_NATS_URL_FILE"} - KNOWN - set(RENAMED) == set()
