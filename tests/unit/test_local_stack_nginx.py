"""The one template of nginx, rendered for this machine."""

import re
from pathlib import Path

from hasty.server.local_stack import nginx
from hasty.server.local_stack.resources import resource


def rendered(folder: Path) -> str:
    """hasty.conf for two api-servers."""
    nginx.render(folder, "127.0.0.1:8080", "127.0.0.1:9000", ["127.0.0.1:1", "127.0.0.1:2"], generation=7, ui="act")
    return (folder / "conf.d" / "hasty.conf").read_text()


def test_every_variable_of_ours_is_filled_in_and_none_of_nginx(tmp_path: Path) -> None:
    """What is left with a dollar is nginx's."""
    text = rendered(tmp_path)
    assert "${" not in text
    assert "listen 127.0.0.1:8080 " in text
    assert "server 127.0.0.1:1 max_fails" in text
    assert "server 127.0.0.1:2 max_fails" in text
    assert "$request_id" in text


def test_the_template_asks_for_four_variables_once_each() -> None:
    """The containers fill in the same four; a mention in a comment would be filled in, too."""
    template = resource("nginx/hasty.conf.template").read_text()
    asked = sorted(re.findall(r"\$\{(\w+)\}", template))
    assert asked == ["HASTY_DASHBOARD", "HASTY_LISTEN", "HASTY_RESOLVER", "HASTY_UI", "HASTY_UPSTREAM_SERVERS"]


def test_a_post_is_never_sent_twice() -> None:
    """One word in this file would make two jobs out of one request."""
    assert "non_idempotent" not in resource("nginx/hasty.conf.template").read_text()
