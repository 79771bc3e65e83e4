"""The caller's environment becomes a stack, or one line that says what is wrong with it."""

from pathlib import Path

import pytest

from hasty.server.local_stack.settings import SettingsError, config_from

FOLDER = Path("somewhere")


def test_without_settings_everything_is_the_stacks_own() -> None:
    """Without any setting, there is nginx on 8080."""
    config = config_from({"PATH": "/bin"}, FOLDER, api_servers=1, job_servers=1)
    assert (config.http_port, config.nats_url, config.api_mongo_url, config.job_mongo_url) == (8080, None, None, None)
    assert config.environment == {}


def test_every_setting_of_hasty_reaches_the_services() -> None:
    """HASTY_* and nothing else is handed on; an empty variable counts as not given."""
    environment = {"HASTY_ACK_WAIT_S": "3", "HASTY_HTTP_PORT": "8123", "HASTY_NATS_URL": "", "HOME": "/h"}
    config = config_from(environment, FOLDER, api_servers=2, job_servers=3)
    assert config.environment == {"HASTY_ACK_WAIT_S": "3", "HASTY_HTTP_PORT": "8123"}
    assert (config.http_port, config.nats_url, config.api_servers, config.job_servers) == (8123, None, 2, 3)


def test_a_url_replaces_its_part_of_the_stack() -> None:
    """Each of the three on its own."""
    environment = {
        "HASTY_NATS_URL": "nats://n",
        "HASTY_API_MONGO_URL": "mongodb://a",
        "HASTY_JOB_MONGO_URL": "mongodb://j",
    }
    config = config_from(environment, FOLDER, api_servers=1, job_servers=1)
    assert (config.nats_url, config.api_mongo_url, config.job_mongo_url) == ("nats://n", "mongodb://a", "mongodb://j")


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "80.5", "٨٠"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    """The line names the variable, what it holds and what it may hold."""
    with pytest.raises(SettingsError, match=r"^HASTY_HTTP_PORT is '.+': it must be a port from 1 to 65535$"):
        config_from({"HASTY_HTTP_PORT": port}, FOLDER, api_servers=1, job_servers=1)


@pytest.mark.parametrize("floor", ["some", "-1", "1.5"])
def test_malformed_disk_floor_is_refused_by_name(floor: str) -> None:
    """As a port is."""
    with pytest.raises(SettingsError, match=r"^HASTY_DISK_FLOOR_MIB is '.+': it must be a whole number of MiB$"):
        config_from({"HASTY_DISK_FLOOR_MIB": floor}, FOLDER, api_servers=1, job_servers=1)
