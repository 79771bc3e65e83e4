"""The command line of a service: it says what the service reads, and refuses what it does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api_server.settings import Settings as ApiSettings
from hasty.server.local_stack.resources import CODE
from hasty.server.runtime import command_line
from hasty.server.runtime.settings import ProcessSettings
from job_server.settings import Settings as JobSettings


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("HASTY_"):
            monkeypatch.delenv(name)


def ended(settings: type[ProcessSettings], *arguments: str) -> int | str | None:
    """The exit code of a command line that starts nothing."""
    with pytest.raises(SystemExit) as leaving:
        command_line.read(settings, "some-server", arguments)
    return leaving.value.code


def test_without_arguments_there_are_settings() -> None:
    """The service starts with them."""
    assert command_line.read(JobSettings, "job-server", []).job_concurrency == 1000


@pytest.mark.parametrize("settings", [ApiSettings, JobSettings])
def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str], settings: type[ProcessSettings]) -> None:
    """With what it is for; one without a description would be a line that helps nobody."""
    assert ended(settings, "--help") == 0
    words = capsys.readouterr().out.split()
    assert [f"HASTY_{field.upper()}" for field in settings.model_fields if f"HASTY_{field.upper()}" not in words] == []
    assert [field for field, info in settings.model_fields.items() if not info.description] == []


def test_help_says_what_a_setting_may_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """The rule and the default are those that are applied."""
    ended(ApiSettings, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "HASTY_DRAIN_DELAY_S how long a stopping process" in text
    assert "a number of seconds from 0 to 60; default 0" in text


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even an abbreviation of a known one is guessed."""
    for argument in ("--chekc", "--che", "up"):
        assert ended(ApiSettings, argument) == 2
        assert f"unrecognized arguments: {argument}" in capsys.readouterr().err


def test_check_accepts_valid_settings_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started."""
    assert ended(ApiSettings, "--check") == 0
    assert capsys.readouterr() == ("", "")


def test_check_refuses_invalid_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the line that a start would end with."""
    monkeypatch.setenv("HASTY_ACK_WAIT_S", "soon")
    assert ended(ApiSettings, "--check") == 2
    assert capsys.readouterr().err == "HASTY_ACK_WAIT_S is 'soon': it must be a number of seconds above 0\n"


@pytest.mark.parametrize("module", ["api_server", "job_server"])
def test_services_have_a_command_line(module: str, tmp_path: Path) -> None:
    """`--help` once started a server."""
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    answer = subprocess.run(  # noqa: S603 - all ours
        [sys.executable, "-P", "-m", module, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"usage: python -m {module} ")
